"""What a run store holds, for tests that compare two of them or damage one."""

from pathlib import Path

PASSING = ("provenance.json", "manifest.json")
"""The files of an artefact that tell when and on what it was made."""


def artefacts(store: Path) -> dict[str, bytes]:
    """The files of all artefacts but those that tell when they were made, with their bytes."""
    return {
        path.relative_to(store).as_posix(): path.read_bytes()
        for path in store.glob("[!.]*/**/*")
        if path.is_file() and path.name not in PASSING
    }


def whole(store: Path) -> dict[str, bytes]:
    """The folders of the artefacts that are complete, with what tells when they were made."""
    return {
        path.parent.relative_to(store).as_posix(): path.read_bytes()
        for path in store.glob("[!.]*/*/*/*/provenance.json")
        if (path.parent / "manifest.json").is_file()
    }


def leftovers(store: Path) -> list[str]:
    """What processes were writing when they were killed."""
    return sorted(path.name for path in store.glob(".partial/*"))


def stage_of(artefact: str) -> str:
    """The stage of an artefact's folder, relative to the store."""
    return Path(artefact).parts[2].rpartition("-")[0]
