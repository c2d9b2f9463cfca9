"""How Sphinx builds this book: in several processes, and without the templates of the theme.

`jupyter-book` has no option for either.
"""

import os
from pathlib import Path

UNDECLARED = ("sphinx_multitoc_numbering", "sphinx_jupyterbook_latex")
"""Do not say that pages can be read apart: the first numbers what has been read, the second is for LaTeX."""


def setup(app) -> dict:
    """Register with Sphinx."""

    def inited(app, config):
        for name in UNDECLARED:
            app.extensions[name].parallel_read_safe = True

    def finished(app, error):
        for template in (Path(app.outdir) / "_static").glob("*-macros.html"):
            template.unlink()

    app.connect("config-inited", inited)
    app.connect("build-finished", finished)
    app.parallel = min(4, os.cpu_count() or 1)
    return {"parallel_read_safe": True}
