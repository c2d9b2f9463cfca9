"""Imported subnetworks: the masks that the authors published, as subnetworks in the run store.

Their repository (sai-prasanna/bert-experiments) holds, for bert-base-uncased,
`masks/<family>/<TASK>/seed_<SEED>/{head_mask,mlp_mask}.npy`. Three families are good subnetworks:
of the search for heads and MLPs together (the paper's section 4), for heads alone and for MLPs
alone (Appendix B). The others are the random and bad subnetworks beside the first of them (section
4.2) and beside its super-survivors (Appendix E). With them all that needs masks but no model can be
computed on what the paper was computed on. The masks are not part of this project; whoever wants
them downloads that repository.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np

from lotterylib.agreement import PARTS, Part
from lotterylib.data.files import read_json
from lotterylib.encoder import Shape
from lotterylib.errors import LotteryError, unknown
from lotterylib.runs.store import Key, RunStore, load_subnetwork, save_subnetwork
from lotterylib.subnetworks import StructuredSubnetwork
from lotterylib.tasks import TASKS

SOURCE = "sai-prasanna/bert-experiments"
ENCODER = "bert-base-uncased-authors"

BERT_BASE = Shape(layers=12, heads=12, hidden=768, intermediate=3072, total=109_483_778)
"""bert-base-uncased with a task layer of two labels. The total: 23,837,184 of embeddings (30,522
word pieces, 512 positions, 2 segments, LayerNorm), 12 x 7,087,872 of layers, 590,592 of the pooler,
1,538 of the task layer."""

HEADS, MLPS = "head_mask.npy", "mlp_mask.npy"


@dataclass(frozen=True)
class Family:
    """Masks that belong together: for every task and seed one.

    Attributes:
        name: as in the run store.
        title: in a few words.
        folder: the authors' name for it.
        files: what each seed has.
        found: whether a search found them; the others were drawn, or follow from those found.
    """

    name: str
    title: str
    folder: str
    files: tuple[str, ...] = (HEADS, MLPS)
    found: bool = False

    @property
    def parts(self) -> tuple[Part, ...]:
        """What the masks choose from."""
        return tuple(part for part in PARTS if f"{part[:-1]}_mask.npy" in self.files)


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("structured", "heads and MLPs together", "heads_mlps", found=True),
        Family("heads", "heads alone", "heads", (HEADS,), found=True),
        Family("mlps", "MLPs alone", "mlps", (MLPS,), found=True),
        Family("random", "random heads and MLPs", "heads_mlps_random"),
        Family("bad", "bad heads and MLPs", "heads_mlps_bad_1"),
        Family("super", "super-survivors", "heads_mlps_super"),
        Family("super-random", "random beside super-survivors", "heads_mlps_super_midling"),
        Family("super-bad", "bad beside super-survivors", "heads_mlps_super_bizzaro"),
    )
}
"""What is read of the authors' folder `masks`. They have more there: an older draw of bad masks
(`heads_mlps_bad`, `heads_mlps_super_bad`) and other studies, which the paper does not report."""

_TASK_OF = {task.tsv_folder: task.name for task in TASKS.values() if task.tsv_folder}
_GOOD = "good.safetensors"


@dataclass(frozen=True)
class Imported:
    """One of the authors' subnetworks.

    Attributes:
        family: one of `FAMILIES`.
        task: the name in `lotterylib.tasks`.
        seed: of fine-tuning.
        subnetwork: what survives; where only heads or only MLPs were searched, all of the other.
        sha256: of the mask files of this family and task, all seeds together.
    """

    family: str
    task: str
    seed: int
    subnetwork: StructuredSubnetwork
    sha256: str

    @property
    def key(self) -> Key:
        """Where it is in the run store."""
        config = {"source": SOURCE, "method": self.family, "sha256": self.sha256}
        return Key(ENCODER, self.task, f"imported-{self.family}", config, self.seed)


def read_masks(folder: Path) -> list[Imported]:
    """Read the authors' masks; nothing is written.

    Args:
        folder: their repository, or its folder `masks`. Whatever else is in there is left alone.

    Returns:
        What there is of `FAMILIES`, in their order, by task and seed.

    Raises:
        LotteryError: no masks there, an unknown task folder, a seed folder without a number or
            without its masks, a task without a seed that other tasks have, a file that is no array
            of zeros and ones, or files whose shapes are of different encoders.
    """
    inside = any((folder / family.folder).is_dir() for family in FAMILIES.values())
    place = folder if inside else folder / "masks"
    files = {
        (family.name, task): seeds
        for family in FAMILIES.values()
        for task, seeds in _find(place / family.folder, family.files).items()
    }
    paths = [path for seeds in files.values() for each in seeds.values() for path in each]
    if not paths:
        raise LotteryError(
            f"There are no masks in {folder}: the authors' repository, or its folder masks, has "
            f"them as {FAMILIES['structured'].folder}/<TASK>/seed_<SEED>/{HEADS} and {MLPS}."
        )
    raw = {path: _read_bytes(path) for path in paths}
    masks = {path: _parse(path, data) for path, data in raw.items()}
    shapes = _check_shapes(masks)
    found = []
    for (family, task), seeds in files.items():
        sums = [
            f"{path.parent.name}/{path.name} {hashlib.sha256(raw[path]).hexdigest()}"
            for each in seeds.values()
            for path in each
        ]
        digest = hashlib.sha256("\n".join(sums).encode()).hexdigest()
        for seed, each in seeds.items():
            own = {path.name: masks[path] for path in each}
            heads, mlps = (own.get(name, np.ones(shape, bool)) for name, shape in shapes.items())
            found.append(Imported(family, task, seed, StructuredSubnetwork(heads, mlps), digest))
    return found


def import_masks(folder: Path, store: RunStore) -> list[Imported]:
    """Bring the authors' masks into the run store; all are read and checked before any is written.

    Importing the same masks again changes nothing, except that it mends what was damaged.

    Args:
        folder: their repository, or its folder `masks`.
        store: each subnetwork is written there as `good.safetensors`.

    Raises:
        LotteryError: as in `read_masks`; nothing was written.
    """
    found = read_masks(folder)
    for each in found:
        store.fetch(each.key, lambda to, kept=each.subnetwork: save_subnetwork(kept, to / _GOOD))  # type: ignore[misc]
    return found


def load_imported(store_root: Path) -> dict[str, dict[str, dict[int, StructuredSubnetwork]]]:
    """What `import_masks` brought into this run store, checked against its checksums.

    Returns:
        The subnetworks by family, task and seed; empty if nothing was imported.

    Raises:
        LotteryError: the import is damaged or incomplete, or there are two of different masks.
    """
    store = RunStore(store_root)
    found: dict[str, dict[str, dict[int, StructuredSubnetwork]]] = {}
    origins: dict[tuple[str, str], Path] = {}
    folders = (store_root / ENCODER).glob("*/imported-*/seed-*")
    for folder in sorted(folders, key=lambda f: (*f.parents[1::-1], _number(f, "seed-"))):
        key = _stored_key(folder, store_root)
        family = str(key.config["method"])
        origin = origins.setdefault((family, key.task), folder.parent)
        if origin != folder.parent:
            raise LotteryError(
                f"The run store holds two imports of different masks, {origin} and "
                f"{folder.parent}; delete one."
            )
        with warnings.catch_warnings(action="ignore"):  # the error says it, and what to do
            path = store.fetch(key, partial(_refuse, folder)) / _GOOD
        subnetwork = load_subnetwork(path)
        if not isinstance(subnetwork, StructuredSubnetwork):
            raise LotteryError(f"{path} holds no heads and MLPs; delete it and import again.")
        found.setdefault(family, {}).setdefault(key.task, {})[key.seed] = subnetwork
    for family, tasks in found.items():
        _check_seeds(
            tasks, f"The import of {family} below {store_root} is incomplete, run it again"
        )
    return {
        family: {task: found[family][task] for task in TASKS if task in found[family]}
        for family in FAMILIES
        if family in found
    }


def _find(folder: Path, names: Collection[str]) -> dict[str, dict[int, list[Path]]]:
    """The mask files of a family by task and seed, in the order of the tasks and seeds."""
    found: dict[str, dict[int, list[Path]]] = {}
    for task in _folders(folder):
        if task.name not in _TASK_OF:
            raise unknown(f"task folder in {folder}:", task.name, _TASK_OF)
        seeds = {_number(seed, "seed_"): seed for seed in _folders(task)}
        if not seeds:
            raise LotteryError(f"{task} has no folder of a seed, such as seed_42.")
        if -1 in seeds:
            raise LotteryError(f"{seeds[-1]} is no folder of a seed, such as seed_42.")
        for seed in seeds.values():
            for name in names:
                if not (seed / name).is_file():
                    raise LotteryError(f"{seed} has no {name}.")
        found[_TASK_OF[task.name]] = {
            number: [seeds[number] / name for name in names] for number in sorted(seeds)
        }
    _check_seeds(found, f"In {folder} masks are missing")
    return {task: found[task] for task in TASKS if task in found}


def _folders(folder: Path) -> list[Path]:
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(p for p in found if p.is_dir() and not p.name.startswith("."))


def _number(folder: Path, prefix: str) -> int:
    """The number after the prefix; -1 if there is none."""
    match = re.fullmatch(f"{prefix}(0|[1-9][0-9]*)", folder.name)
    return int(match[1]) if match else -1


def _check_seeds(tasks: Mapping[str, Mapping[int, object]], problem: str) -> None:
    wanted = {seed for seeds in tasks.values() for seed in seeds}
    lacking = {task: sorted(wanted - seeds.keys()) for task, seeds in tasks.items()}
    told = [
        f"{task} lacks seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
        for task, seeds in lacking.items()
        if seeds
    ]
    if told:
        raise LotteryError(f"{problem}: {'; '.join(told)}, which another task has.")


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise LotteryError(f"{path} cannot be read: {error.strerror}.") from None


def _parse(path: Path, data: bytes) -> np.ndarray:
    try:
        # a pickle could run anything, and nobody needs one for zeros and ones
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # a header is read as Python, so anything can be wrong with it
        raise LotteryError(f"{path} is not a readable array of numbers ({error}).") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise LotteryError(f"{path} is not an array of numbers.")
    layout = ("layers", "heads") if path.name == HEADS else ("layers",)
    if array.ndim != len(layout) or not array.size:
        raise LotteryError(
            f"{path} holds a mask of shape {array.shape}; it must be [{', '.join(layout)}]."
        )
    other = array[(array != 0) & (array != 1)]
    if other.size:
        raise LotteryError(f"{path} holds the value {other[0]}; a mask holds zeros and ones only.")
    return array == 1


def _check_shapes(masks: Mapping[Path, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """The shapes of both files of the encoder that the masks are of; another's are refused."""
    first = next(iter(masks))
    layers = len(masks[first])
    # masks of MLPs alone do not say how many heads a layer has; the authors' encoder does
    heads = next((m.shape[1] for m in masks.values() if m.ndim == 2), BERT_BASE.heads)
    shapes: dict[str, tuple[int, ...]] = {HEADS: (layers, heads), MLPS: (layers,)}
    for path, mask in masks.items():
        if mask.shape != shapes[path.name]:
            raise LotteryError(
                f"{path} holds a mask of shape {mask.shape}, but it must be {shapes[path.name]} to "
                f"be of the same encoder as the others, such as {first}."
            )
    return shapes


def _refuse(damaged: Path, _folder: Path | None = None) -> NoReturn:
    raise LotteryError(f"The imported subnetwork {damaged} is damaged; run the import again.")


def _stored_key(folder: Path, root: Path) -> Key:
    seed = _number(folder, "seed-")
    with suppress(OSError, ValueError, KeyError, TypeError):
        stored = read_json(folder / "config.json")
        key = Key(ENCODER, folder.parents[1].name, stored["stage"], stored["config"], seed)
        if root / key.path == folder and key.config["method"] in FAMILIES:
            return key
    _refuse(folder)
