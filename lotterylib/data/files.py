"""Files: JSON that is always the same, texts that appear whole, and folders with a manifest."""

from __future__ import annotations

import hashlib
import json
import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from lotterylib.errors import LotteryError
from lotterylib.tasks import Task

MANIFEST = "manifest.json"
"""The file of a folder that holds the checksum of each other one."""

HOME = "LOTTERY_HOME"
"""The environment variable that names the folder of run store and pages."""


def home() -> Path:
    """The folder in which run store and pages lie unless they are named: that of `LOTTERY_HOME`,
    else the nearest above the working directory that holds the notebooks, else the repository of
    this library, else the working directory.

    Raises:
        LotteryError: `LOTTERY_HOME` is no folder, or the working directory is gone.
    """
    if named := os.environ.get(HOME):
        if not os.path.isdir(given := os.path.expanduser(named)):
            raise LotteryError(f"The environment variable {HOME} is {named!r}, which is no folder.")
        return Path(given).absolute()
    try:
        here = Path.cwd()
    except OSError:
        raise LotteryError("The working directory is gone: go to one that exists.") from None
    for folder in (here, *here.parents, Path(__file__).parents[2]):
        if os.path.isfile(folder / "notebooks" / "01_finetune.ipynb"):
            return folder
    return here


def at_home(path: str) -> Path:
    """A path that is counted from `home`, as one writes it from the working directory."""
    place = home() / os.path.expanduser(path)
    below = not os.path.isabs(path) and Path.cwd().is_relative_to(home())
    return Path(os.path.relpath(place)) if below else place


def write_json(path: Path, value: object) -> None:
    """Write JSON that is the same byte for byte for the same value; refuses NaN."""
    text = json.dumps(value, sort_keys=True, indent=1, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def write_whole(path: Path, text: str) -> None:
    """Write a file that others may be reading: they see the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(path)


def check_readable(file: Path) -> None:
    """Refuse a file that cannot be opened, is empty, or is a pointer of Git LFS."""
    try:
        with open(file, "rb") as opened:
            start = opened.read(40)
    except OSError as error:
        raise LotteryError(f"{file} cannot be read: {error.strerror}.") from None
    if start.startswith(b"version https://git-lfs"):
        raise LotteryError(
            f"{file} is a Git LFS pointer, not the file itself: run 'git lfs pull' there."
        )
    if not start:
        raise LotteryError(f"{file} is empty.")


def read_json(path: Path) -> Any:
    """Read JSON; an OSError or a ValueError where it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_yaml(path: Path, such_as: str) -> tuple[dict[str, Any], dict[str, int]]:
    """The names with values of a YAML file that people write, and the line of each name.

    Raises:
        LotteryError: it cannot be read, is no list of names with values (of which `such_as` is an
            example), or has a name twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        node, found = yaml.compose(text, yaml.SafeLoader), yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise LotteryError(f"{path}, line {line}: this is not YAML: {error.problem}.") from None
    except FileNotFoundError:
        raise _missing(path) from None
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error).split("\n")[0]
        raise LotteryError(f"The file {path} cannot be read: {reason}.") from None
    if not isinstance(found, dict) or not isinstance(node, yaml.MappingNode):
        raise LotteryError(f"{path} must hold lines such as '{such_as}'.")
    lines: dict[str, int] = {}
    for key, _ in node.value:
        if str(key.value) in lines:
            line = key.start_mark.line + 1
            raise LotteryError(f"{path}, line {line}: {key.value!r} stands there for the 2nd time.")
        lines[str(key.value)] = key.start_mark.line + 1
    return {str(name): value for name, value in found.items()}, lines


def _missing(path: Path) -> LotteryError:
    """That a file is missing, with the nearest of its kind in its folder."""
    folder = path.parent
    there = sorted(folder.glob(f"*{path.suffix}")) if folder.is_dir() else []
    near = get_close_matches(path.name, [each.name for each in there], n=1)
    hint = f" Did you mean {str(folder / near[0])!r}?" if near else ""
    return LotteryError(f"The file {path} does not exist.{hint}")


def check_directory(path: str, task: Task) -> None:
    """Refuse a data directory that is none, or that a task has no use for; empty is right."""
    if not path:
        return
    if not task.tsv_folder:
        how = "generated, not read" if task.is_bundled else f"described by {task.file}"
        raise LotteryError(f"{task.title} takes no data directory: it is {how}.")
    if os.path.isfile(path):  # Path's own raises on some texts
        raise LotteryError(
            f"The data directory {path} is a file, not a directory; if it is an archive, unpack it."
        )
    if not os.path.isdir(path):
        raise LotteryError(f"The data directory {path} does not exist.")


def checksums(folder: Path) -> dict[str, str]:
    """What the manifest of a folder has to be: names with SHA-256, in hexadecimal digits."""
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "no file"
        for file in sorted(folder.iterdir())
        if file.name != MANIFEST
    }


def damage_of(folder: Path) -> str:
    """In what the files of a folder are not those of its manifest; empty if in nothing."""
    try:
        manifest = read_json(folder / MANIFEST)
    except (OSError, ValueError):
        return "its manifest is missing or unreadable"
    if not isinstance(manifest, dict):
        return "its manifest is unreadable"
    try:
        found = checksums(folder)
    except OSError as error:  # also one that another process is replacing just now
        return f"{Path(error.filename or folder).name} cannot be read"
    for name in sorted({*manifest, *found}):
        if name not in found:
            return f"{name} is missing"
        if manifest.get(name) != found[name]:
            return f"{name} does not match its checksum"
    return ""
