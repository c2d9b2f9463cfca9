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
from lotterylib.runs.experiment import open_experiment
from lotterylib.runs.pattern_counts import (
    CONDITIONS,
    classifier,
    count_patterns,
    counts_key,
    shares_table,
)
from lotterylib.runs.presets import PRESETS
from lotterylib.runs.searches import find_good
from lotterylib.runs.settings import parse_settings
from lotterylib.runs.store import RunStore
from lotterylib.subnetworks import StructuredSubnetwork


def by_hand(attention):
    """A made-up classifier that any change of a map moves."""
    return int(attention[:, 0].astype(float).mean() * 1e4) % 5


def about_half(made, seed, name, report, number=0):
    """What a structured search might have found; at least one head and MLP for all seeds."""
    if name == "super":
        return find_good(made, seed, name, report)
    draw = np.random.default_rng(seed)
    heads, mlps = draw.random((3, 4)) < 0.6, draw.random(3) < 0.6
    heads[0, 1] = heads[2, 0] = mlps[1] = True
    heads[0, 0] = False
    return [], StructuredSubnetwork(heads, mlps)


@pytest.fixture(scope="module", autouse=True)
def _small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lotterylib.data.glue, "BUNDLED_ROWS", {"train": 60, "validation": 60})
        patch.setattr(lotterylib.runs.experiment, "find_good", about_half)
        patch.setattr(pattern_counts, "EXAMPLES", 23)  # more than one batch of 20
        patch.setattr(pattern_counts, "classifier", lambda store: None)
        patch.setattr(
            pattern_counts, "classify_by_cnn", lambda cnn, maps: np.array(list(map(by_hand, maps)))
        )
        yield


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Experiments on pairs, in one store."""
    amounts = {"budget": "smoke", "train_rows": 16, "dev_rows": 30, "max_length": 24}
    amounts |= {"learning_rate": 3e-3, "store": str(tmp_path_factory.mktemp("runs"))}

    def make(preset="paper", seeds=(3, 1), **fields):
        values = amounts | {"encoder": "tiny", "preset": preset, "seeds": seeds}
        made = open_experiment(parse_settings("entailment", **values))
        made.settings = made.settings.but(**fields)
        return made

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


def test_progress_ends_with_the_last_example(opened, tmp_path):
    made, told = opened(), []
    made.store = RunStore(tmp_path)
    count_patterns(made, 3, "pre-trained, raw", lambda share, words: told.append((share, words)))
    assert told == [(pytest.approx(20 / 23), "pre-trained, raw"), (1.0, "pre-trained, raw")]


# --- Figure 4 ------------------------------------------------------------------


@pytest.mark.parametrize(("preset", "inside"), [("paper", "full"), ("official", "super")])
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


def test_keys_differ_where_maps_do(opened):
    made = opened()
    for condition in CONDITIONS:
        base = counts_key(made, 3, condition)
        for field, changes in (
            ("attention_slices", condition.endswith("normed")),
            ("attention_token_types", True),
            ("attention_in_subnetwork", False),
            ("importance", False),
        ):
            other = opened(**{field: PRESETS["official"][field]})
            assert (counts_key(other, 3, condition).digest != base.digest) == changes
        inside = counts_key(made, 3, condition, "super")
        assert inside.path != counts_key(made, 3, condition, "structured").path != base.path
        stale = opened(stale_importance=True)
        assert counts_key(stale, 3, condition, "super").digest != inside.digest
    paths = {counts_key(made, seed, c).path for c in CONDITIONS for seed in (3, 1)}
    assert len(paths) == 8


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
