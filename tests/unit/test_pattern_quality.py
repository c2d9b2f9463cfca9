"""Quality is measured on the validation half alone, against labels."""

import numpy as np
import pandas as pd
import pytest

from lotterylib.data.attention_maps import LabelledMaps, load_labelled
from lotterylib.patterns import PATTERNS
from lotterylib.report import comparisons
from lotterylib.report.comparisons import confusions, label_agreement, quality_table


@pytest.fixture
def perfect_and_constant(monkeypatch):
    """A network that knows every label, and rules that always say heterogeneous."""
    known = {}
    labelled = load_labelled()
    for kind in ("raw", "normed"):
        part = labelled.part(kind, "validation")
        known |= {each.tobytes(): code for each, code in zip(part.maps, part.codes, strict=True)}
    monkeypatch.setattr(comparisons, "classifier", lambda store: None)
    monkeypatch.setattr(
        comparisons,
        "classify_by_cnn",
        lambda _, maps: np.array([known[each.tobytes()] for each in maps]),
    )
    monkeypatch.setattr(comparisons, "classify_by_rules", lambda maps: np.full(len(maps), 4))
    return labelled


def test_perfect_answers_score_one_and_only_validation_maps_are_asked(perfect_and_constant):
    table = quality_table(None)
    for kind in ("raw", "normed"):
        count = len(perfect_and_constant.part(kind, "validation"))
        assert table.loc[(kind, "network"), "labelled"] == count
        assert table.loc[(kind, "network"), ["weighted F1", "macro F1", "accuracy"]].eq(1).all()
        labels = perfect_and_constant.part(kind, "validation").codes
        assert table.loc[(kind, "rules"), "accuracy"] == pytest.approx(
            (labels == 4).mean(), abs=1e-3
        )
        most = np.bincount(labels).max() / count
        assert table.loc[(kind, "commonest"), "accuracy"] == pytest.approx(most, abs=1e-3)


def test_confusions_count_every_map_once_with_labels_in_rows(perfect_and_constant):
    tables = confusions(None)
    assert set(tables) == {
        f"{c}, {k} maps" for c in ("network", "rules") for k in ("raw", "normed")
    }
    for kind in ("raw", "normed"):
        labels = np.bincount(perfect_and_constant.part(kind, "validation").codes, minlength=5)
        assert np.array_equal(tables[f"network, {kind} maps"], np.diag(labels))
        assert np.array_equal(tables[f"rules, {kind} maps"][:, 4], labels)
        assert tables[f"rules, {kind} maps"][:, :4].sum() == 0


def test_agreement_of_the_readers_is_told_by_hand_computed_numbers():
    labels = [PATTERNS[0], PATTERNS[0], PATTERNS[1], PATTERNS[1]]
    second = [PATTERNS[0], PATTERNS[1], PATTERNS[1], ""]
    table = pd.DataFrame({"label": labels, "second_label": second})
    # Of three maps two agree; by chance (2/3)(1/3) + (1/3)(2/3) = 4/9, so kappa is 2/5.
    told = label_agreement(LabelledMaps(tuple(np.zeros((2, 2)) for _ in labels), table))
    assert "labelled 3 of the raw maps" in told
    assert "67%" in told
    assert "kappa 0.40" in told
