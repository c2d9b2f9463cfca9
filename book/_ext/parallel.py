"""Has Sphinx read and write the pages in several processes: chapters are computed as they are read.

`jupyter-book` has no option for that, as `sphinx-build` has.
"""

import os


def setup(app) -> dict:
    """Register with Sphinx."""
    app.parallel = min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    return {"parallel_read_safe": True}
