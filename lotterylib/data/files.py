"""Files: JSON that is always the same, texts that appear whole, and folders with a manifest."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
"""The file of a folder that holds the checksum of each other one."""


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


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        OSError, ValueError: the file cannot be read, or is no JSON that can be.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


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
