"""Labels and maps belong together, or the loader says in a sentence why they do not."""

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file
from sklearn.metrics import f1_score

from lotterylib.data.attention_maps import COLUMNS, FOLDER, HALVES, KINDS, load_labelled
from lotterylib.data.files import MANIFEST, checksums, write_json
from lotterylib.errors import LotteryError
from lotterylib.patterns import PATTERNS, classify_by_rules


def seal(folder):
    """Record the checksums anew."""
    write_json(folder / MANIFEST, checksums(folder))


def change(folder, edit):
    """Edit the table of labels."""
    table = pd.read_csv(folder / "labels.csv", dtype=str, keep_default_na=False)
    edit(table).to_csv(folder / "labels.csv", index=False)
    seal(folder)


def change_maps(folder, edit, name="raw.safetensors"):
    maps = load_file(folder / name)
    edit(maps)
    save_file(maps, folder / name)
    seal(folder)


@pytest.fixture
def folder(tmp_path, rng):
    """Six raw and two normed maps."""
    rows, files = [], {"raw": {}, "normed": {}}
    for number in range(8):
        kind, length = ("raw", "normed")[number > 5], 4 + number
        name = f"{kind}-{number}"
        files[kind][name] = rng.random((length, length)).astype(np.float16)
        what = [name, kind, "tiny", "cola", number % 3, number % 4, length]
        label = [PATTERNS[number % 5], HALVES[number % 2], "reader 1"]
        second = {2: "block", 3: PATTERNS[3]}.get(number, "")
        rows.append([*what, *label, second])
    pd.DataFrame(rows, columns=COLUMNS).to_csv(tmp_path / "labels.csv", index=False)
    for kind, maps in files.items():
        save_file(maps, tmp_path / f"{kind}.safetensors")
    seal(tmp_path)
    return tmp_path


def test_maps_and_labels_come_in_the_order_of_the_table(folder):
    change(folder, lambda table: table.iloc[::-1])
    labelled = load_labelled(folder)
    stored = load_file(folder / "raw.safetensors") | load_file(folder / "normed.safetensors")
    assert labelled.table["id"].iloc[0] == "normed-7"
    assert labelled.codes.tolist() == [number % 5 for number in reversed(range(8))]
    for row, found in zip(labelled.table.itertuples(), labelled.maps, strict=True):
        assert found.dtype == np.float32
        assert np.array_equal(found, stored[row.id])
        assert len(found) == row.length
    first, second = labelled.read_twice()
    assert (first.tolist(), second.tolist()) == ([3, 2], [3, 3])


def test_parts_divide_the_whole(folder):
    labelled = load_labelled(folder)
    parts = {(kind, half): labelled.part(kind, half) for kind in KINDS for half in HALVES}
    names = [name for part in parts.values() for name in part.table["id"]]
    assert sorted(names) == sorted(labelled.table["id"])
    part = parts["raw", "tuning"]
    assert part.table["id"].to_dict() == {0: "raw-0", 1: "raw-2", 2: "raw-4"}
    assert part.codes.tolist() == [0, 2, 4]
    assert [len(each) for each in part.maps] == [4, 6, 8]
    with pytest.raises(LotteryError, match=r"kind of map 'normd'. Did you mean 'normed'"):
        labelled.part("normd", "tuning")
    with pytest.raises(LotteryError, match="half 'test'"):
        labelled.part("raw", "test")


def relabel(column, value):
    def edit(table):
        table.loc[table["id"] == "raw-3", column] = value
        return table

    return edit


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (relabel("label", "diagnoal"), "raw-3, 'diagnoal'. Did you mean 'diagonal'"),
        (relabel("second_label", "blok"), "second label of map raw-3, 'blok'.*'block'"),
        (relabel("kind", "norm"), "kind of map raw-3.*'normed'"),
        (relabel("id", "raw-2"), "raw-2 twice"),
        (relabel("id", "raw-33"), "name the map raw-33, but"),
        (relabel("length", "9"), r"raw-3.*\(7, 7\).*9 tokens"),
        (relabel("layer", "two"), "no whole number"),
        (lambda table: table[table["id"] != "raw-3"], "map raw-3 in .* has no label"),
        (lambda table: table.drop(columns="half"), "lacks the column 'half'"),
        (lambda table: table[:0], "holds no labels"),
    ],
)
def test_a_wrong_table_is_refused(folder, edit, words):
    change(folder, edit)
    with pytest.raises(LotteryError, match=words):
        load_labelled(folder)


def test_missing_and_surplus_maps_are_refused(folder):
    change_maps(folder, lambda maps: maps.pop("raw-1"))
    with pytest.raises(LotteryError, match=r"name the map raw-1, but .*raw\.safetensors"):
        load_labelled(folder)
    more = np.zeros((5, 5), np.float16)
    change_maps(folder, lambda maps: maps.update({"raw-1": more, "raw-9": more}))
    with pytest.raises(LotteryError, match=r"map raw-9 in .*raw\.safetensors has no label"):
        load_labelled(folder)
    change_maps(folder, lambda maps: maps.pop("raw-9"))
    change(folder, lambda table: table[table["kind"] == "raw"])
    (folder / "normed.safetensors").unlink()  # one kind alone is enough
    seal(folder)
    assert len(load_labelled(folder)) == 6
    assert load_labelled(folder).part("normed", "tuning").codes.shape == (0,)


def test_changed_maps_and_labels_are_noticed(folder):
    for name in ("labels.csv", "normed.safetensors"):
        content = bytearray((folder / name).read_bytes())
        content[-3] ^= 1
        (folder / name).write_bytes(content)
        with pytest.raises(LotteryError, match=f"{name} does not match its checksum"):
            load_labelled(folder)
        (folder / name).unlink()
        with pytest.raises(LotteryError, match=rf"{name} is missing"):
            load_labelled(folder)
        (folder / name).write_bytes(content)
        seal(folder)
    (folder / MANIFEST).unlink()
    with pytest.raises(LotteryError, match="manifest is missing"):
        load_labelled(folder)


# the maps that come with the library


@pytest.fixture(scope="module")
def shipped():
    return load_labelled()


def test_the_shipped_maps_are_what_the_protocol_says(shipped):
    table = shipped.table
    protocol = (FOLDER / "PROTOCOL.md").read_text(encoding="utf-8")
    assert table.groupby("kind").size().to_dict() == {"raw": 320, "normed": 320}
    assert table.groupby(["kind", "task"]).size().eq(40).all()
    assert set(table.groupby(["kind", "layer", "head"]).size()) == {4, 5}
    assert table["length"].between(12, 48).all()
    for kind in KINDS:
        counts = np.bincount(shipped.codes[table["kind"] == kind]).tolist()
        assert f"| {kind} | {' | '.join(map(str, counts))} |" in protocol
    first, second = shipped.read_twice()
    assert f"Of the {len(first)} maps that were read twice, {(first == second).sum()} " in protocol
    number = table["id"].str.split("-").str[1]
    twice = (table["kind"] == "raw") & (number.astype(int) % 5 == 0)
    assert twice.equals(table["second_label"] != "")
    for column in ("half", "task", "layer", "head", "length"):  # of both maps of a draw
        assert table.groupby(number)[column].nunique().eq(1).all()
    assert table.groupby(["kind", "half"]).size().eq(160).all()


def test_a_normed_map_is_its_raw_map_with_the_columns_rescaled(shipped):
    maps = dict(zip(shipped.table["id"], shipped.maps, strict=True))
    for number in range(1, 321):
        raw, normed = maps[f"raw-{number:03d}"], maps[f"normed-{number:03d}"]
        np.testing.assert_allclose(raw.sum(axis=1), 1, atol=5e-3)
        factor = normed.sum(axis=0) / raw.sum(axis=0)
        np.testing.assert_allclose(normed, raw * factor, atol=2e-3 * normed.max() + 1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_rules_do_better_than_naming_the_commonest_label(shipped, kind):
    part = shipped.part(kind, "validation")
    score = f1_score(part.codes, classify_by_rules(part.maps), average="weighted")
    commonest = np.full(len(part), np.bincount(part.codes).argmax())
    assert score > 0.75
    assert score > f1_score(part.codes, commonest, average="weighted") + 0.15
