"""The labelled maps are what their protocol says; the rules name most of them rightly."""

import shutil

import numpy as np
import pytest
from sklearn.metrics import f1_score

from lotterylib.data import attention_maps
from lotterylib.data.attention_maps import FOLDER, HALVES, KINDS, load_labelled
from lotterylib.errors import LotteryError
from lotterylib.patterns import PATTERNS, classify_by_rules


def test_changed_maps_are_noticed(tmp_path, monkeypatch):
    folder = shutil.copytree(FOLDER, tmp_path / "labelled")
    monkeypatch.setattr(attention_maps, "FOLDER", folder)
    content = bytearray((folder / "normed.safetensors").read_bytes())
    content[-3] ^= 1
    (folder / "normed.safetensors").write_bytes(content)
    with pytest.raises(LotteryError, match=r"normed\.safetensors does not match its checksum"):
        load_labelled()


@pytest.fixture(scope="module")
def shipped():
    return load_labelled()


def test_parts_divide_the_whole(shipped):
    names, codes = {}, [PATTERNS.index(label) for label in shipped.table["label"]]
    assert shipped.codes.tolist() == codes
    for kind in KINDS:
        for half in HALVES:
            part = shipped.part(kind, half)
            names |= dict(zip(part.table["id"], part.codes, strict=True))
            assert [len(each) for each in part.maps] == part.table["length"].tolist()
    assert names == dict(zip(shipped.table["id"], codes, strict=True))


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
