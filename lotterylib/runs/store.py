"""The run store: every artefact in a folder named after what made it, verified when it is read.

    <root>/<encoder>/<task>/<stage>-<hash of the configuration>/seed-<n>/

A folder appears whole or not at all: it is written under another name and renamed into place. It
holds the artefact (safetensors or JSON), `config.json`, `provenance.json` and `manifest.json` with
the checksum of each file. What does not match its checksum is reported, set aside and computed
again, never used.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import re
import shutil
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from lotterylib.data.files import MANIFEST, checksums, damage_of, read_json, write_json
from lotterylib.errors import LotteryError, reason_of
from lotterylib.runs.stopping import raise_if_stopped
from lotterylib.subnetworks import (
    StructuredSubnetwork,
    Subnetwork,
    WeightSubnetwork,
    natural_order,
)

if TYPE_CHECKING:  # subnetworks can be read without waiting for torch
    from lotterylib.scoring import Score

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{,99}")


@dataclass(frozen=True)
class Key:
    """What an artefact is: names fit for folders, a seed, and what else determines it, for JSON."""

    encoder: str
    task: str
    stage: str
    config: Mapping[str, Any]
    seed: int

    def __post_init__(self) -> None:
        for name in (self.encoder, self.task, self.stage):
            if not _NAME.fullmatch(name):
                raise LotteryError(
                    f"{name!r} cannot name a folder of the run store: it must begin with a letter "
                    "or digit and have letters, digits, '.', '_' and '-' only, 100 at most."
                )

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that stand for the configuration."""
        text = json.dumps(self.config, sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def path(self) -> Path:
        """The artefact's folder, relative to the store's root."""
        return Path(self.encoder, self.task, f"{self.stage}-{self.digest}", f"seed-{self.seed}")

    @property
    def flat(self) -> str:
        """The same as one name."""
        return "+".join(self.path.parts)


class RunStore:
    """Artefacts under one root; several processes may use it, and none makes what another makes."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def has(self, key: Key) -> bool:
        """Whether the artefact is there, verified or not."""
        return (self.root / key.path / MANIFEST).is_file()

    def is_whole(self, key: Key) -> bool:
        """Whether the artefact is there and matches its checksums."""
        return not damage_of(self.root / key.path)

    def is_claimed(self, key: Key) -> bool:
        """Whether some process is making the artefact now."""
        if not (claim := self._claim(key)).is_file():
            return False
        try:
            with FileLock(claim).acquire(blocking=False):
                return False
        except Timeout:
            return True
        except OSError:  # nobody can make anything in a store that cannot be written to
            return False

    def failure(self, key: Key) -> str:
        """Why the artefact last failed, in a line; empty if it did not."""
        try:
            return read_json(self._failure(key))["reason"]
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def record_failure(self, key: Key, error: Exception) -> None:
        """Keep what went wrong with an artefact, in a line, for `failure`."""
        file = self._failure(key)
        with suppress(OSError):  # a store that cannot be written to keeps no reasons either
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, {"reason": reason_of(error)})

    def fetch(self, key: Key, make: Callable[[Path], None], device: str = "cpu") -> Path:
        """The artefact's folder, whose files match their checksums; while another process makes it,
        this one waits.

        Args:
            key: what is wanted.
            make: writes the files into an empty folder if they are missing or damaged.
            device: what `make` computes on, for the provenance.

        Raises:
            LotteryError: the store cannot be written to.
            Exception: whatever `make` raises; the reason is kept for `failure`.
        """
        folder = self.root / key.path
        if self.is_whole(key):
            return folder
        try:
            with self._claimed(key):
                if folder.is_dir() and (damage := damage_of(folder)):
                    told = f"{folder} is damaged ({damage}); it is computed again."
                    warnings.warn(told, stacklevel=2)
                    self._discard(key)
                if not folder.is_dir():
                    self._make(key, make, device)
                    self._failure(key).unlink(missing_ok=True)
        except Exception as error:
            raise_if_stopped()
            # What another artefact failed on is its failure, not that of those that need it.
            if not getattr(error, "__notes__", None):
                self.record_failure(key, error)
            error.add_note(f"while computing {key.path}")
            raise
        return folder

    def _make(self, key: Key, make: Callable[[Path], None], device: str) -> None:
        started = time.perf_counter()
        scratch = self._scratch(key)
        try:
            shutil.rmtree(scratch, ignore_errors=True)  # of a process that was killed
            scratch.mkdir(parents=True)
            make(scratch)
            seconds = time.perf_counter() - started
            _complete(scratch, key, provenance(device) | {"seconds": round(seconds, 2)})
            (self.root / key.path).parent.mkdir(parents=True, exist_ok=True)
            scratch.rename(self.root / key.path)
        except (OSError, SafetensorError) as error:
            raise LotteryError(
                f"{key.stage} of {key.task}, seed {key.seed}, cannot be kept in the run store "
                f"{self.root}: {getattr(error, 'strerror', None) or error}."
            ) from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    @contextmanager
    def _claimed(self, key: Key) -> Iterator[None]:
        """Within it no other process makes the artefact, until this one ends, however it does."""
        claim = self._claim(key)
        try:
            claim.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(claim)
            lock.acquire()
        except OSError as error:
            raise LotteryError(
                f"The run store {self.root} cannot be written to: {error.strerror or error}."
            ) from None
        try:
            yield
        finally:
            lock.release()

    def tidy(self) -> None:
        """Delete what killed processes left half-written, but nothing that is being made."""
        for scratch in (self.root / ".partial").glob("*"):
            lock = FileLock(self.root / ".claims" / f"{scratch.name}.lock")
            with suppress(OSError, Timeout), lock.acquire(blocking=False):
                shutil.rmtree(scratch, ignore_errors=True)

    def _discard(self, key: Key) -> None:
        # Renamed first: a folder half deleted must not be met under its own name.
        scratch = self._scratch(key)
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.parent.mkdir(parents=True, exist_ok=True)
        (self.root / key.path).rename(scratch)
        shutil.rmtree(scratch, ignore_errors=True)

    # Only the holder of a claim touches the scratch folder of the same name.

    def _claim(self, key: Key) -> Path:
        return self.root / ".claims" / f"{key.flat}.lock"

    def _scratch(self, key: Key) -> Path:
        return self.root / ".partial" / key.flat

    def _failure(self, key: Key) -> Path:
        return self.root / ".failed" / f"{key.flat}.json"

    def provenance(self, key: Key) -> dict[str, Any]:
        """Versions, device and seconds of an artefact that is there."""
        return read_json(self.root / key.path / "provenance.json")


def provenance(device: str) -> dict[str, Any]:
    """What an artefact was made with: versions, device, threads, and the commit if there is one."""
    import torch

    packages = ("torch", "transformers", "datasets", "numpy", "lotterylib")
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
        "device": device,
        "threads": torch.get_num_threads(),
        "commit": _commit(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _complete(folder: Path, key: Key, origin: dict[str, Any]) -> None:
    """Write what an artefact has beside its own files."""
    write_json(folder / "config.json", {"stage": key.stage, "config": key.config})
    write_json(folder / "provenance.json", origin)
    write_json(folder / MANIFEST, checksums(folder))
    mode = (folder / MANIFEST).stat().st_mode
    with suppress(OSError):  # file systems without modes
        for file in folder.iterdir():  # safetensors lets only the owner read its files
            file.chmod(mode)


def _commit() -> str:
    """Of this library's repository; empty if it is in none, or there is no git."""
    command = ["git", "rev-parse", "--short=12", "HEAD"]
    named = {"cwd": Path(__file__).parent, "capture_output": True, "text": True, "timeout": 5}
    try:
        return subprocess.run(command, check=True, **named).stdout.strip()  # type: ignore[call-overload]
    except (OSError, subprocess.SubprocessError):
        return ""


def write_score(folder: Path, score: Score) -> None:
    """Write a score into a folder."""
    write_json(folder / "score.json", asdict(score))


def read_score(folder: Path) -> Score:
    """Read what `write_score` wrote; equal to what was written."""
    from lotterylib.scoring import Score

    values = read_json(folder / "score.json")
    return Score(values["metrics"], values["constant"], tuple(values["predictions"]))


def save_subnetwork(subnetwork: Subnetwork, path: Path) -> None:
    """Write a subnetwork as safetensors; booleans of weight subnetworks are packed eight a byte."""
    if isinstance(subnetwork, StructuredSubnetwork):
        save_file({"heads": subnetwork.heads, "mlps": subnetwork.mlps}, path)
        return
    packed = {name: np.packbits(kept) for name, kept in subnetwork.weights.items()}
    shapes = {name: ",".join(map(str, kept.shape)) for name, kept in subnetwork.weights.items()}
    # One entry: the order of several in the file is random, and equal subnetworks are equal files.
    save_file(packed, path, metadata={"shapes": json.dumps(shapes, sort_keys=True)})


def load_subnetwork(path: Path) -> Subnetwork:
    """Read what `save_subnetwork` wrote; the result equals what was saved.

    Raises:
        LotteryError: the file is missing, damaged, or holds something else.
    """
    try:
        arrays = load_file(path)
        with safe_open(path, "numpy") as file:
            shapes = file.metadata() or {}
        if "shapes" in shapes:  # older stores have an entry per parameter
            shapes = dict(json.loads(shapes["shapes"]))
        if arrays.keys() == {"heads", "mlps"}:
            return StructuredSubnetwork(arrays["heads"], arrays["mlps"])
        names = sorted(arrays, key=natural_order)
        if not names or natural_order(names[0])[0] < 0 or arrays.keys() != shapes.keys():
            raise ValueError("it is neither of heads and MLPs nor of weights")
        return WeightSubnetwork({name: _unpacked(arrays[name], shapes[name]) for name in names})
    except (
        *(OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError),
        SafetensorError,
    ) as error:  # the last ones come of types that NumPy lacks, and of JSON
        reason = str(error).rstrip(".")
        raise LotteryError(f"{path} is not a readable subnetwork: {reason}.") from None


def _unpacked(packed: np.ndarray, sizes: str) -> np.ndarray:
    shape = tuple(map(int, sizes.split(",")))
    if packed.dtype != np.uint8 or min(shape) < 0 or packed.size != (math.prod(shape) + 7) // 8:
        raise ValueError(f"it has no packed mask of {sizes}")
    return np.unpackbits(packed, count=math.prod(shape)).astype(bool).reshape(shape)
