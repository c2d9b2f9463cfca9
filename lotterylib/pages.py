"""Pages: the notebook templates, run by papermill for one task and kept as pages of the book."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import papermill
from papermill.exceptions import PapermillExecutionError

from lotterylib.errors import LotteryError
from lotterylib.settings import Settings, check_names

TEMPLATE = re.compile(r"\d\d_[a-z_]+\.ipynb")
_VOLATILE = (
    "start_time",
    "end_time",
    "duration",
    "input_path",
    "output_path",
    "environment_variables",
)


def templates(folder: Path) -> list[Path]:
    """The notebook templates of a folder, in their order.

    Raises:
        LotteryError: there are none.
    """
    found = sorted(path for path in folder.glob("*.ipynb") if TEMPLATE.fullmatch(path.name))
    if not found:
        raise LotteryError(
            f"{folder} holds no notebook templates: run from the repository, or name their folder "
            "with --notebooks."
        )
    return found


def page_path(pages: Path, encoder: str, task: str, template: Path) -> Path:
    """Where the page of a template lies: `<pages>/<encoder>/<task>/<template>`."""
    return pages / encoder / task / template.name


def parameters_of(settings: Settings) -> dict[str, Any]:
    """The settings as a notebook's parameters."""
    return {
        "task": settings.task.name,
        "encoder": settings.encoder,
        "preset": settings.preset.name,
        "budget": settings.budget,
        "seeds": list(settings.seeds),
        "train_rows": settings.train_rows,
        "dev_rows": settings.dev_rows,
        "epochs": settings.epochs,
        "learning_rate": settings.learning_rate,
        "batch_order": settings.batch_order,
        "data_dir": settings.data_dir,
        "store": str(settings.store),
    }


def render(template: Path, page: Path, parameters: Mapping[str, Any]) -> None:
    """Run a template and keep it, with its outputs, as a page.

    The page appears only if the run succeeds, so a failure never replaces a good page; what a
    failed run had got to is kept beside it as `<name>.failed.ipynb`.

    Raises:
        LotteryError: a parameter that the template does not have, or a cell that failed.
    """
    accepted = papermill.inspect_notebook(str(template))
    check_names(parameters, accepted)
    page.parent.mkdir(parents=True, exist_ok=True)
    failed = page.with_suffix(".failed.ipynb")
    with tempfile.TemporaryDirectory(dir=page.parent) as scratch:
        output = Path(scratch) / page.name
        try:
            papermill.execute_notebook(
                str(template), str(output), dict(parameters), progress_bar=False, cwd=os.getcwd()
            )
        except PapermillExecutionError as error:
            output.rename(failed)
            raise LotteryError(
                f"{template.name} failed in cell {error.exec_count}: {error.ename}: {error.evalue} "
                f"(as far as it got: {failed})"
            ) from None
        _settle(output)
        output.replace(page)
    failed.unlink(missing_ok=True)


def _settle(path: Path) -> None:
    """Take out what differs between two equal runs, so that equal results are equal files."""
    notebook = nbformat.read(path, as_version=4)
    for name in _VOLATILE:
        notebook.metadata.get("papermill", {}).pop(name, None)
    notebook.metadata.get("language_info", {}).pop("version", None)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
    nbformat.write(notebook, path)
