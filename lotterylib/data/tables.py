"""Tables: the rows of CSV, TSV, JSON lines and parquet files, each with its place in its file.

A table is a frame of objects; its index names the places, such as "train.tsv, line 7". A line feed
ends a line, with a carriage return before it or not, and nothing else does. Every row is as wide as
the header. What is wrong is said with file and line before anything else is done.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from difflib import get_close_matches
from functools import lru_cache
from numbers import Number
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lotterylib.data.files import check_readable
from lotterylib.errors import LotteryError, line_of, unknown

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset, DatasetDict

    from lotterylib.tasks import Task

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
"""How the files that are read end."""

MOST_SHORT = 10
"""Rows that may be left out of a file because they are cut short, where any may."""

Rows = Iterator[tuple[int, list[Any]]]


def _table(columns: dict[str, list[Any]], places: Iterable[str]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(columns, pd.Index(places, dtype=object), dtype=object)  # type: ignore[arg-type]


def joined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The rows of tables of the same columns, one table after the other."""
    import pandas as pd

    return pd.concat(parts)


def read_table(
    file: Path,
    columns: Sequence[str],
    header: Sequence[str] = (),
    classes: Collection[str] = (),
    spare_short: bool = False,
) -> pd.DataFrame:
    """Read columns of a file with an ending in `SUFFIXES`, which tells its kind.

    Args:
        file, columns: what to read.
        header: the names of all columns, for a TSV file whose first line holds none.
        classes: where a parquet file names the classes behind its codes, names other than these
            are not taken; empty to take any.
        spare_short: leave out rows of a TSV file that are cut short, up to `MOST_SHORT`;
            `attrs["short"]` says how many.

    Raises:
        LotteryError: the file is missing or cannot be read, lacks a column, has no rows, or has a
            row of another width.
    """
    kind = file.suffix.lower()
    if kind not in SUFFIXES:
        raise LotteryError(
            f"{file} is of no kind that is read: names end with {', '.join(SUFFIXES[:-1])} or "
            f"{SUFFIXES[-1]}."
        )
    if not file.is_file():
        raise LotteryError(f"The file {file} is missing.")
    check_readable(file)
    if kind == ".parquet":
        table = _read_parquet(file, columns, classes)
    elif kind in (".json", ".jsonl"):
        table = _read_json(file, columns)
    else:
        rows = _split_tsv(file) if kind == ".tsv" else _split_csv(file)
        table = _read_rows(file, rows, columns, header, spare_short)
    if table.empty:
        raise LotteryError(f"{file} holds no rows.")
    return table


def from_dataset(split: Dataset, columns: Sequence[str], source: str) -> pd.DataFrame:
    """The same of a split that `datasets` has loaded, with class names for codes."""
    _check_columns(source, columns, split.column_names)
    found = {name: list(split[name]) for name in columns}
    for name in columns:
        if names := getattr(split.features[name], "names", None):
            found[name] = _in_words(found[name], names)
    return _table(found, [f"{source}, row {row + 1}" for row in range(len(split))])


def label_text(value: object) -> str:
    """A label as text, whatever its type in the file: 1, 1.0 and "1" are the same; "" for none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return re.sub(r"^([+-]?\d+)\.0*$", r"\1", str(value).strip())


def label_texts(table: pd.DataFrame) -> list[str]:
    """The last column as texts, as `label_text` makes them.

    Raises:
        LotteryError: a label that is neither a text nor a number, with its place.
    """
    labels = table.iloc[:, -1]
    for place, label in labels.items():
        if not isinstance(label, Number | None) and not _is_text(label):
            told = f"the label {label!r:.60} is neither a text nor a number"
            raise LotteryError(f"{place}: {told}.")
    return [label_text(label) for label in labels]


@lru_cache(maxsize=2)
def load_hub(*names: str) -> DatasetDict:
    """Load a data set of the Hugging Face hub; where the hub cannot be reached, from the cache.

    One question with a timeout of 5 s tells which; `datasets` alone would try for longer. A
    ConnectionError says why neither can be; otherwise it raises what `datasets` does.
    """
    import datasets
    import huggingface_hub

    configurations: tuple[Any, ...] = (datasets.config, huggingface_hub.constants)
    were = [each.HF_HUB_OFFLINE for each in configurations]
    unreached: Exception | None = None
    try:
        if not any(were):
            huggingface_hub.HfApi().dataset_info(names[0], timeout=5)
    except huggingface_hub.errors.HfHubHTTPError:
        pass  # it has answered
    except Exception as error:  # whatever a network fails with
        unreached = error
        for each in configurations:
            each.HF_HUB_OFFLINE = True
    try:
        return datasets.load_dataset(*names)  # type: ignore[return-value]
    except Exception:
        if unreached is None:
            raise
        raise ConnectionError(line_of(unreached).strip(" .")) from None
    finally:
        for each, was in zip(configurations, were, strict=True):
            each.HF_HUB_OFFLINE = was


def coded(table: pd.DataFrame, task: Task) -> dict[str, list[Any]]:
    """The rows of a split with label codes, int or float, under `label`, checked one by one.

    Raises:
        LotteryError: a text that is none, or a label that the task does not have, with its place.
    """
    labels = label_texts(table)
    table = table.set_axis([*task.columns, "label"], axis=1)
    for name in task.columns:
        for place, text in table[name].items():
            if not _is_text(text) or (task.file and not text.strip()):
                holds = f"holds {text!r}" if label_text(text) else "is empty"
                raise LotteryError(f"{place}: the column {name!r} {holds}; it must be a text.")
    known = {label: code for code, label in enumerate(task.labels)}
    if not task.file:
        known |= {str(code): code for code in range(len(task.labels))}
    read = _number if task.is_regression else lambda label, _: known.get(label)
    codes = [read(label, task) for label in labels]
    if None in codes:
        row = codes.index(None)
        label = labels[row]
        what = f"the label {label!r}, which {task.title} does not have" if label else "no label"
        raise LotteryError(f"{table.index[row]}: the row has {what}. {_accepted(task, label)}")
    return {name: table[name].tolist() for name in task.columns} | {"label": codes}


def _is_text(value: object) -> bool:
    """Whether it can be written as UTF-8; JSON may hold halves of signs, which cannot."""
    try:
        return isinstance(value, str) and bool(value.encode() or True)
    except UnicodeEncodeError:
        return False


def _check_columns(where: object, wanted: Sequence[str], there: Sequence[str]) -> None:
    for name in wanted:
        if name not in there:
            raise unknown(f"column of {where}:", name, there)
        if there.count(name) > 1:
            raise LotteryError(f"{where} has several columns of the name {name!r}.")


def _text(file: Path) -> str:
    data = file.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise LotteryError(f"{file}, line {line}: this is not UTF-8; save it as UTF-8.") from None


def _split_tsv(file: Path) -> Rows:
    for number, line in enumerate(_text(file).split("\n"), 1):
        if line := line.removesuffix("\r"):
            yield number, line.split("\t")


def _split_csv(file: Path) -> Rows:
    text = _text(file)
    first = text.split("\n", 1)[0]
    lines = (f"{line}\n" for line in text.removesuffix("\n").split("\n"))
    reader = csv.reader(lines, delimiter=max(",;\t", key=first.count), strict=True)
    while True:
        began = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise LotteryError(
                f"{file}, line {began}: the row that begins here cannot be read: {error}."
            ) from None
        if row is None:
            return
        if row:
            yield began, row


def _read_rows(
    file: Path, rows: Rows, columns: Sequence[str], header: Sequence[str], spare_short: bool
) -> pd.DataFrame:
    if not header:
        header = [name.strip() for name in next(rows, (0, []))[1]]
    if not header:
        raise LotteryError(f"{file} is empty.")
    _check_columns(file, columns, list(header))
    places = [header.index(name) for name in columns]
    found: list[list[Any]] = []
    numbers, short = [], []
    for number, row in rows:
        if len(row) < len(header) and spare_short:
            short.append(number)
            continue
        if len(row) < len(header) or any(row[len(header) :]):
            much = "is cut short: it" if len(row) < len(header) else "is too long: it"
            raise LotteryError(
                f"{file}, line {number}: the row {much} has {len(row)} fields instead of "
                f"{len(header)}."
            )
        numbers.append(number)
        found.append([row[place] for place in places])
    if len(short) > min(MOST_SHORT, len(found)):
        raise LotteryError(
            f"{file}, line {short[0]}: the row is cut short, and so are {len(short) - 1} more; at "
            f"most {min(MOST_SHORT, len(found))} are left out."
        )
    values = {name: [row[place] for row in found] for place, name in enumerate(columns)}
    table = _table(values, [f"{file}, line {number}" for number in numbers])
    table.attrs["short"] = len(short)
    return table


def _read_json(file: Path, columns: Sequence[str]) -> pd.DataFrame:
    text, unit = _text(file), "line"
    numbered = enumerate(text.split("\n"), 1)
    records = []
    try:
        if text.lstrip().startswith("["):
            number, unit = 1, "record"
            records = list(enumerate(json.loads(text), 1))
        else:
            for number, line in numbered:
                if line.strip():
                    records.append((number, json.loads(line)))
    except (ValueError, RecursionError) as error:
        number += getattr(error, "lineno", 1) - 1
        raise LotteryError(
            f"{file}, line {number}: this is no JSON: {getattr(error, 'msg', error)}; accepted is "
            'one object a line, such as {"text": "...", "label": "..."}.'
        ) from None
    for number, record in records:
        if not isinstance(record, dict):
            raise LotteryError(f"{file}, {unit} {number}: this is no object with columns.")
        _check_columns(f"{file}, {unit} {number}", columns, list(record))
    found = {name: [record[name] for _, record in records] for name in columns}
    return _table(found, [f"{file}, {unit} {number}" for number, _ in records])


def _read_parquet(file: Path, columns: Sequence[str], classes: Collection[str]) -> pd.DataFrame:
    import pyarrow.parquet

    try:
        schema = pyarrow.parquet.read_schema(file)
        _check_columns(file, columns, schema.names)
        table = pyarrow.parquet.read_table(file, columns=list(columns))
        found = {name: table[name].to_pylist() for name in columns}
        told = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = told.get("info", {}).get("features", {})
    except LotteryError:
        raise
    except Exception as error:  # whatever a damaged file leads Arrow to
        raise LotteryError(f"{file} cannot be read as parquet: {error}.") from None
    for name in columns:
        names = features.get(name, {}).get("names") or []
        if names and (not classes or set(names) == set(classes)):
            found[name] = _in_words(found[name], names)
    return _table(found, [f"{file}, row {row + 1}" for row in range(table.num_rows)])


def _in_words(codes: list[Any], names: Sequence[str]) -> list[Any]:
    """Class names for codes; what is no code stays, to be refused with its place."""
    return [
        names[code] if isinstance(code, int) and 0 <= code < len(names) else code for code in codes
    ]


def _number(label: str, task: Task) -> float | None:
    """A label of regression; None if it is no number or out of range."""
    try:
        value = float(label)
    except ValueError:
        return None
    low, high = task.label_range
    return value if math.isfinite(value) and low <= value <= high else None


def _accepted(task: Task, label: str) -> str:
    if task.is_regression:
        low, high = task.label_range
        return "Accepted: numbers" + f" from {low:g} to {high:g}" * math.isfinite(low) + "."
    codes = "" if task.file else f" (or 0 to {task.outputs - 1})"
    near = get_close_matches(label, task.labels, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"Accepted: {', '.join(task.labels)}{codes}.{hint}"
