"""Has Sphinx read and write pages in several processes, so that several chapters are computed at once.

`jupyter-book` has no option for it.
"""

import os

UNDECLARED = ("sphinx_multitoc_numbering", "sphinx_jupyterbook_latex")
"""Do not say that pages can be read apart: the first numbers what has been read, the second is for LaTeX."""


def setup(app) -> dict:
    """Register with Sphinx."""

    def inited(app, config):
        for name in UNDECLARED:
            app.extensions[name].parallel_read_safe = True

    app.connect("config-inited", inited)
    app.parallel = min(4, os.cpu_count() or 1)
    return {"parallel_read_safe": True}
