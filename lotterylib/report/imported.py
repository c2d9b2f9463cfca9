"""Imported subnetworks: the masks that the authors published, as subnetworks in the run store.

Their repository (sai-prasanna/bert-experiments) holds, for bert-base-uncased,
`masks/<family>/<TASK>/seed_<SEED>/{head_mask,mlp_mask}.npy`. Three families are good subnetworks:
of the search for heads and MLPs together (the paper's section 4), for heads alone and for MLPs
alone (Appendix B). The others are the random and bad subnetworks beside the first of them (section
4.2) and beside its super-survivors (Appendix E). The masks are not part of this project; whoever
wants them downloads that repository.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lotterylib.agreement import PARTS, Part
from lotterylib.data.files import damage_of
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

ByTask = Mapping[str, Mapping[int, StructuredSubnetwork]]
"""Subnetworks by task and seed."""

Found = Mapping[str, ByTask]
"""What was imported: subnetworks by family, task and seed."""


@dataclass(frozen=True)
class Family:
    """Masks that belong together: for every task and seed one.

    Attributes:
        title: in a few words.
        folder: the authors' name for it.
        parts: what the masks choose from.
        found: whether a search found them; the others were drawn, or follow from those found.
    """

    title: str
    folder: str
    parts: tuple[Part, ...] = PARTS
    found: bool = False


FAMILIES = {
    "structured": Family("heads and MLPs together", "heads_mlps", found=True),
    "heads": Family("heads alone", "heads", ("heads",), found=True),
    "mlps": Family("MLPs alone", "mlps", ("mlps",), found=True),
    "random": Family("random heads and MLPs", "heads_mlps_random"),
    "bad": Family("bad heads and MLPs", "heads_mlps_bad_1"),
    "super": Family("super-survivors", "heads_mlps_super"),
    "super-random": Family("random beside super-survivors", "heads_mlps_super_midling"),
    "super-bad": Family("bad beside super-survivors", "heads_mlps_super_bizzaro"),
}
"""What is read of the authors' folder `masks`. They have more there: an older draw of bad masks
(`heads_mlps_bad`, `heads_mlps_super_bad`) and other studies, which the paper does not report."""

_FILES: dict[Part, str] = {"heads": "head_mask.npy", "mlps": "mlp_mask.npy"}
_SHAPES: dict[Part, tuple[int, ...]] = {
    "heads": (BERT_BASE.layers, BERT_BASE.heads),
    "mlps": (BERT_BASE.layers,),
}
_TASK_OF = {task.tsv_folder: task.name for task in TASKS.values() if task.tsv_folder}
_GOOD = "good.safetensors"


@dataclass(frozen=True)
class Imported:
    """One of the authors' subnetworks.

    Attributes:
        family, task, seed: a name in `FAMILIES`, one in `TASKS`, and the seed of fine-tuning.
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
            of zeros and ones, or masks of another encoder than BERT-base.
    """
    inside = any((folder / family.folder).is_dir() for family in FAMILIES.values())
    place = folder if inside else folder / "masks"
    files = {
        (name, task): seeds
        for name, family in FAMILIES.items()
        for task, seeds in _find(place / family.folder, family.parts).items()
    }
    if not files:
        raise LotteryError(
            f"There are no masks in {folder}: the authors' repository, or its folder masks, has "
            "them as heads_mlps/<TASK>/seed_<SEED>/head_mask.npy and mlp_mask.npy."
        )
    found = []
    for (family, task), seeds in files.items():
        sums, kept = [], {}
        for seed, each in seeds.items():
            masks = {part: np.ones(shape, dtype=bool) for part, shape in _SHAPES.items()}
            for part, path in each.items():
                digest, masks[part] = _read(path, _SHAPES[part])
                sums.append(f"{path.parent.name}/{path.name} {digest}")
            kept[seed] = StructuredSubnetwork(**masks)
        digest = hashlib.sha256("\n".join(sums).encode()).hexdigest()
        found += [Imported(family, task, seed, each, digest) for seed, each in kept.items()]
    return found


def import_masks(folder: Path, store: RunStore) -> list[Imported]:
    """Bring the authors' masks into the run store; all are read and checked before any is written.

    Importing the same masks again changes nothing, except that it mends what was damaged.

    Raises:
        LotteryError: as in `read_masks`; nothing was written.
    """
    found = read_masks(folder)
    for each in found:
        store.fetch(each.key, lambda to, kept=each.subnetwork: save_subnetwork(kept, to / _GOOD))  # type: ignore[misc]
    return found


def load_imported(store_root: Path) -> Found:
    """What `import_masks` brought into this run store, checked against its checksums.

    Returns:
        The subnetworks, families and tasks in the order of their tables, seeds by number; empty if
        nothing was imported.

    Raises:
        LotteryError: the import is damaged or incomplete, or there are two of different masks.
    """
    found: dict[str, dict[str, dict[int, StructuredSubnetwork]]] = {}
    for family, task in itertools.product(FAMILIES, TASKS):
        stage = f"imported-{family}-{'[0-9a-f]' * 12}"
        imports = sorted((store_root / ENCODER / task).glob(stage))
        if len(imports) > 1:
            raise LotteryError(
                f"The run store holds two imports of different masks, {imports[0]} and "
                f"{imports[1]}; delete one."
            )
        seeds = {}
        for folder in (each for each in imports for each in each.glob("seed-*")):
            if damage_of(folder):
                raise LotteryError(
                    f"The imported subnetwork {folder} is damaged; run the import again."
                )
            seeds[int(folder.name.removeprefix("seed-"))] = load_subnetwork(folder / _GOOD)
        if seeds:
            found.setdefault(family, {})[task] = dict(sorted(seeds.items()))  # type: ignore[arg-type]
    for family, tasks in found.items():
        told = f"The import of {family} below {store_root} is incomplete, run it again"
        _check_seeds(tasks, told)
    return found


def _find(folder: Path, parts: Collection[Part]) -> dict[str, dict[int, dict[Part, Path]]]:
    """The mask files of a family by task and seed, in the order of the tasks and seeds."""
    found: dict[str, dict[int, dict[Part, Path]]] = {}
    for task in _folders(folder):
        if task.name not in _TASK_OF:
            raise unknown(f"task folder in {folder}:", task.name, _TASK_OF)
        seeds = {}
        for seed in _folders(task):
            number = re.fullmatch("seed_(0|[1-9][0-9]*)", seed.name)
            if not number:
                raise LotteryError(f"{seed} is no folder of a seed, such as seed_42.")
            seeds[int(number[1])] = {part: seed / _FILES[part] for part in parts}
            for path in seeds[int(number[1])].values():
                if not path.is_file():
                    raise LotteryError(f"{seed} has no {path.name}.")
        if not seeds:
            raise LotteryError(f"{task} has no folder of a seed, such as seed_42.")
        found[_TASK_OF[task.name]] = dict(sorted(seeds.items()))
    _check_seeds(found, f"In {folder} masks are missing")
    return {task: found[task] for task in TASKS if task in found}


def _folders(folder: Path) -> list[Path]:
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(p for p in found if p.is_dir() and not p.name.startswith("."))


def _check_seeds(tasks: Mapping[str, Mapping[int, object]], problem: str) -> None:
    wanted = {seed for seeds in tasks.values() for seed in seeds}
    told = []
    for task, seeds in tasks.items():
        if lacking := sorted(wanted - seeds.keys()):
            several = "s" * (len(lacking) > 1)
            told.append(f"{task} lacks seed{several} {', '.join(map(str, lacking))}")
    if told:
        raise LotteryError(f"{problem}: {'; '.join(told)}, which another task has.")


def _read(path: Path, shape: tuple[int, ...]) -> tuple[str, np.ndarray]:
    """The SHA-256 of a mask file, and the mask as booleans of this shape."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LotteryError(f"{path} cannot be read: {error.strerror}.") from None
    try:
        # a pickle could run anything, and nobody needs one for zeros and ones
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # a header is read as Python, so anything can be wrong with it
        raise LotteryError(f"{path} is not a readable array of numbers ({error}).") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise LotteryError(f"{path} is not an array of numbers.")
    if array.shape != shape:
        raise LotteryError(
            f"{path} holds a mask of shape {array.shape}; the authors' encoder is BERT-base, so it "
            f"must be {shape}."
        )
    other = array[(array != 0) & (array != 1)]
    if other.size:
        raise LotteryError(f"{path} holds the value {other[0]}; a mask holds zeros and ones only.")
    return hashlib.sha256(data).hexdigest(), array == 1
