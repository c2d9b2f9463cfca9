"""Takes out of the built site what the theme copies there although it is no page: its templates."""

from pathlib import Path


def setup(app) -> dict:
    """Register with Sphinx."""

    def finished(app, error):
        for template in (Path(app.outdir) / "_static").glob("*-macros.html"):
            template.unlink()

    app.connect("build-finished", finished)
    return {"parallel_read_safe": True}
