"""Counts of patterns: every map of every head once, measured where the preset says."""

from unittest.mock import Mock

import numpy as np
import pytest

import lotterylib.batches
import lotterylib.data.glue
import lotterylib.runs.experiment
from lotterylib.attention import maps_of
from lotterylib.gates import gate_values, gated
from lotterylib.patterns import PATTERNS
from lotterylib.runs import pattern_counts
from lotterylib.runs.pattern_counts import (
    CONDITIONS,
    classifier,
    count_patterns,
    counts_key,
    shares_table,
)
from lotterylib.runs.store import RunStore
from tests.small import half_of, small_experiment


def by_hand(attention):
    """A made-up classifier that any change of a map moves."""
    return int(attention[:, 0].astype(float).mean() * 1e4) % 5


@pytest.fixture(scope="module", autouse=True)
def _small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lotterylib.data.glue, "BUNDLED_ROWS", {"train": 60, "validation": 60})
        patch.setattr(lotterylib.runs.experiment, "find_good", half_of)
        patch.setattr(pattern_counts, "EXAMPLES", 23)  # more than one batch of 20
        patch.setattr(pattern_counts, "classifier", lambda store: None)
        patch.setattr(
            pattern_counts, "classify_by_cnn", lambda cnn, maps: np.array(list(map(by_hand, maps)))
        )
        yield


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Experiments on pairs, in one store."""
    store = tmp_path_factory.mktemp("runs")

    def make(preset="paper", **changes):
        values = {"task": "entailment", "seeds": (3, 1), "dev_rows": 30, "max_length": 24}
        return small_experiment(
            store, **values | {"learning_rate": 3e-3, "preset": preset} | changes
        )

    return make


def slow(made, condition, seed, model=None):
    """Every map of every head of the chosen examples, one by one."""
    dev, settings = made.splits[1], made.settings
    tuned = condition.startswith("fine-tuned")
    model = model or (made.finetuned(seed) if tuned else made.pretrained(seed))
    options = {"slices": settings.attention_slices, "token_types": settings.attention_token_types}
    chosen = np.random.default_rng([seed, 3]).permutation(len(dev))[:23]
    counts = np.zeros((3, 4, 5), dtype=int)
    for row in chosen.tolist():
        (maps,) = maps_of(model, dev, [row], condition.endswith("normed"), **options)
        for layer, head in np.ndindex(3, 4):
            counts[layer, head, by_hand(maps[layer, head])] += 1
    return counts


def close(counts, wanted):
    """Nearly equal: maps computed in another batch differ in their last digits."""
    return np.abs(counts - wanted).sum() <= 0.05 * wanted.sum()


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("preset", ["paper", "official"])
def test_counts_equal_a_slow_count_under_the_preset_and_condition(opened, preset, condition):
    made = opened(preset)
    assert (made.settings.attention_slices == "rows") == (preset == "official")
    assert made.settings.attention_token_types == (preset == "paper")
    counts = count_patterns(made, 1, condition)
    assert counts.dtype == np.int64
    assert (counts.sum(axis=2) == np.full((3, 4), 23)).all()
    wanted = slow(made, condition, 1)
    assert close(counts, wanted)
    others = [(opened(other), c) for other in ("paper", "official") for c in CONDITIONS]
    alike = [close(count_patterns(other, 1, c), wanted) for other, c in others]
    assert sum(alike) == 1


def test_inside_a_subnetwork_the_maps_are_those_of_the_gated_model(opened):
    made = opened()
    survivors, model = made.subnetwork(3, "super", "good"), made.finetuned(3)
    with gated(model, *gate_values(survivors)):
        wanted = slow(made, "fine-tuned, raw", 3, model)
    inside = count_patterns(made, 3, "fine-tuned, raw", within="super")
    assert close(inside, wanted)
    full = count_patterns(made, 3, "fine-tuned, raw")
    assert not close(inside, full)
    assert np.array_equal(inside[0], full[0])  # nothing is closed before the first layer


# --- Figure 4 ------------------------------------------------------------------


@pytest.mark.parametrize(("preset", "inside"), [("paper", ""), ("official", "super")])
def test_the_table_is_of_all_heads_and_super_survivors_where_the_preset_says(
    opened, preset, inside
):
    made = opened(preset)
    table = shares_table(made)
    keys = table[["weights", "maps", "heads"]].agg(", ".join, axis=1).tolist()
    assert keys == [f"{c}, {heads}" for c in CONDITIONS for heads in ("all", "super")]
    for row in table.to_dict("records"):
        condition, means = f"{row['weights']}, {row['maps']}", np.zeros(5)
        for seed in (3, 1):
            if row["heads"] == "all":
                totals = count_patterns(made, seed, condition).sum(axis=(0, 1))
            else:
                kept = made.subnetwork(seed, "super", "good").heads
                totals = count_patterns(made, seed, condition, within=inside)[kept].sum(axis=0)
            means += totals / totals.sum() / 2
        assert [row[pattern] for pattern in PATTERNS] == pytest.approx(means.tolist())
    assert shares_table(opened(preset, seeds=[3]))["heads"].tolist() == ["all"] * 4


# --- keys ----------------------------------------------------------------------


def test_maps_within_a_subnetwork_depend_on_its_search(opened):
    for condition in CONDITIONS:
        one, other = opened(), opened(stale_importance=True)
        inside = counts_key(one, 3, condition, "super")
        assert inside.path != counts_key(one, 3, condition).path
        assert counts_key(other, 3, condition, "super").digest != inside.digest
        assert counts_key(other, 3, condition) == counts_key(one, 3, condition)


def test_the_classifier_is_trained_once_per_store(tmp_path, monkeypatch):
    train = Mock(return_value="a classifier")
    monkeypatch.setattr(pattern_counts, "GENERATED_MAPS", 10)
    monkeypatch.setattr(pattern_counts, "train_cnn", train)
    monkeypatch.setattr(pattern_counts, "save_cnn", lambda cnn, path: path.write_text(cnn))
    monkeypatch.setattr(pattern_counts, "load_cnn", lambda path: path.read_text())
    store = RunStore(tmp_path)
    assert [classifier(store) for _ in range(3)] == ["a classifier"] * 3
    ((maps, codes, seed),) = (call.args for call in train.call_args_list)
    assert (len(maps), len(codes), seed) == (10, 10, pattern_counts.CNN_SEED)
