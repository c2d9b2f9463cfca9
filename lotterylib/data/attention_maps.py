"""Real attention maps with labels, to measure on them the classifiers that learnt from others.

The maps that the authors and Kovaleva et al. labelled (section 5.2) cannot be had. In their place
`labelled/` holds a few; its `PROTOCOL.md` says how they were drawn and read, and what it is worth.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file

from lotterylib.data.files import damage_of
from lotterylib.errors import LotteryError, unknown
from lotterylib.patterns import PATTERNS

KINDS, HALVES = ("raw", "normed"), ("tuning", "validation")
FOLDER = Path(__file__).parent / "labelled"
COLUMNS = (
    *("id", "kind", "encoder", "task", "layer", "head", "length"),
    *("label", "half", "annotator", "second_label"),
)


@dataclass(frozen=True, eq=False)
class LabelledMaps:
    """Maps and what is known about each.

    Attributes:
        maps: float32[n, n] each, rows attending to columns, without padding.
        table: a row per map in the same order, with the columns `COLUMNS`; `layer` and `head`
            count from 0, `second_label` is empty where only one reader looked.
    """

    maps: tuple[np.ndarray, ...]
    table: pd.DataFrame

    def __len__(self) -> int:
        return len(self.maps)

    @property
    def codes(self) -> np.ndarray:
        """The label of each map as a place in `PATTERNS`: int64[maps]."""
        return _codes(self.table["label"])

    def part(self, kind: str, half: str) -> LabelledMaps:
        """The maps of one kind and one half; it may be empty.

        Raises:
            LotteryError: there is no such kind or half.
        """
        for name, given, accepted in (("kind of map", kind, KINDS), ("half", half, HALVES)):
            if given not in accepted:
                raise unknown(name, given, accepted)
        chosen = (self.table["kind"] == kind) & (self.table["half"] == half)
        maps = tuple(one for one, wanted in zip(self.maps, chosen, strict=True) if wanted)
        return LabelledMaps(maps, self.table[chosen].reset_index(drop=True))

    def read_twice(self) -> tuple[np.ndarray, np.ndarray]:
        """The first and the second reader's codes, int64 each, of the maps that both looked at."""
        both = self.table[self.table["second_label"] != ""]
        return _codes(both["label"]), _codes(both["second_label"])


def load_labelled(folder: Path | None = None) -> LabelledMaps:
    """The labelled maps of a folder, checked as a whole.

    The folder holds `labels.csv` with the columns `COLUMNS`, a file of maps per kind that it names
    (`raw.safetensors`, `normed.safetensors`; the keys are the ids) and a manifest with the SHA-256
    of each file.

    Args:
        folder: None for the one that comes with the library.

    Raises:
        LotteryError: a file is missing, unreadable or not the one of the manifest; an unknown
            label, kind or half; an id twice, without a map, or of a map of another length; a map
            without a label.
    """
    folder = folder or FOLDER
    if damage := damage_of(folder):
        raise LotteryError(
            f"The labelled maps in {folder} are damaged: {damage}. Labels may belong to other maps."
        )
    table = _read_labels(folder / "labels.csv")
    maps: dict[str, np.ndarray] = {}
    for kind in KINDS:
        if len(rows := table[table["kind"] == kind]):
            file = folder / f"{kind}.safetensors"
            try:
                found = load_file(file)
            except (OSError, SafetensorError) as error:
                raise LotteryError(f"{file} cannot be read: {error}.") from None
            _match(rows, found, file)
            maps |= found
    return LabelledMaps(tuple(maps[each].astype(np.float32) for each in table["id"]), table)


def _codes(labels: pd.Series) -> np.ndarray:
    return np.array([PATTERNS.index(label) for label in labels], dtype=np.int64)


def _read_labels(file: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise LotteryError(f"{file} is not a readable table of labels: {error}.") from None
    if missing := [column for column in COLUMNS if column not in table]:
        raise LotteryError(
            f"{file} lacks the column {missing[0]!r}; it has {', '.join(map(str, table))}."
        )
    if not len(table):
        raise LotteryError(f"{file} holds no labels.")
    table = table[list(COLUMNS)]
    repeated = table["id"][table["id"].duplicated()]
    if len(repeated):
        raise LotteryError(f"{file} has the id {repeated.iloc[0]} twice.")
    accepted = {"kind": KINDS, "half": HALVES, "label": PATTERNS, "second_label": ("", *PATTERNS)}
    for column, names in accepted.items():
        for each, given in zip(table["id"], table[column], strict=True):
            if given not in names:
                kind = f"{column.replace('_', ' ')} of map {each},"
                raise unknown(kind, given, [name for name in names if name])
    try:
        return table.astype(dict.fromkeys(("layer", "head", "length"), int))
    except ValueError:
        raise LotteryError(f"{file} has a layer, head or length that is no whole number.") from None


def _match(table: pd.DataFrame, maps: dict[str, np.ndarray], file: Path) -> None:
    labelled = dict(zip(table["id"], table["length"], strict=True))
    for each, length in labelled.items():
        if each not in maps:
            raise LotteryError(f"The labels name the map {each}, but {file} does not hold it.")
        if maps[each].shape != (length, length):
            raise LotteryError(
                f"The map {each} in {file} has the shape {maps[each].shape}, but its label was "
                f"given to one of {length} tokens."
            )
    if unlabelled := sorted(maps.keys() - labelled.keys()):
        raise LotteryError(f"The map {unlabelled[0]} in {file} has no label.")
