"""Counts of patterns: every map of every head once, measured where the preset says."""

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
    root = tmp_path_factory.mktemp("runs")

    def make(preset="paper", seeds=(3, 1), **fields):
        settings = parse_settings(
            "entailment",
            encoder="tiny",
            preset=preset,
            budget="smoke",
            seeds=seeds,
            train_rows=16,
            dev_rows=30,
            max_length=24,
            learning_rate=3e-3,
            store=str(root),
        )
        made = open_experiment(settings)
        made.settings = made.settings.but(**fields)
        return made

    return make


def slow(made, model, condition, seed, **options):
    """Every map of every head of the chosen examples, one by one."""
    dev = made.splits[1]
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
def test_counts_sum_to_examples_times_heads(opened, condition):
    for preset in ("paper", "official"):
        counts = count_patterns(opened(preset), 3, condition)
        assert counts.dtype == np.int64
        assert counts.shape == (3, 4, len(PATTERNS))
        assert (counts.sum(axis=2) == 23).all()


@pytest.mark.parametrize("condition", CONDITIONS)
def test_counts_equal_a_slow_count_under_the_papers_preset(opened, condition):
    made = opened()
    model = made.finetuned(1) if condition.startswith("fine-tuned") else made.pretrained(1)
    wanted = slow(made, model, condition, 1)
    counts = count_patterns(made, 1, condition)
    assert close(counts, wanted)
    others = [count_patterns(made, 1, other) for other in CONDITIONS if other != condition]
    assert not any(close(other, wanted) for other in others)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_the_official_preset_takes_rows_and_no_token_types(opened, condition):
    official, paper = (parse_settings("rte", preset=p) for p in ("official", "paper"))
    options = {"slices": official.attention_slices, "token_types": official.attention_token_types}
    assert options == {"slices": "rows", "token_types": False}
    assert (paper.attention_slices, paper.attention_token_types) == ("columns", True)
    made = opened("official")
    model = made.finetuned(3) if condition.startswith("fine-tuned") else made.pretrained(3)
    assert close(count_patterns(made, 3, condition), slow(made, model, condition, 3, **options))
    assert not close(count_patterns(opened(), 3, condition), count_patterns(made, 3, condition))


def test_inside_a_subnetwork_the_maps_are_those_of_the_gated_model(opened):
    made = opened()
    survivors = made.subnetwork(3, "super", "good")
    model = made.finetuned(3)
    with gated(model, *gate_values(survivors)):
        wanted = slow(made, model, "fine-tuned, raw", 3)
    inside = count_patterns(made, 3, "fine-tuned, raw", within="super")
    assert close(inside, wanted)
    full = count_patterns(made, 3, "fine-tuned, raw")
    assert not close(inside, full)
    assert np.array_equal(inside[0], full[0])  # nothing is closed before the first layer
    assert (inside.sum(axis=2) == 23).all()


def test_progress_ends_with_the_last_example(opened, tmp_path):
    made, told = opened(), []
    made.store = RunStore(tmp_path)
    count_patterns(made, 3, "pre-trained, raw", lambda share, words: told.append((share, words)))
    assert told == [(pytest.approx(20 / 23), "pre-trained, raw"), (1.0, "pre-trained, raw")]


# --- Figure 4 ------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["paper", "official"])
def test_the_table_is_of_all_heads_and_super_survivors_where_the_preset_says(opened, preset):
    made = opened(preset)
    table = shares_table(made)
    keys = table[["weights", "maps", "heads"]].agg(", ".join, axis=1).tolist()
    assert keys == [f"{c}, {heads}" for c in CONDITIONS for heads in ("all", "super")]
    inside = {"paper": "full", "official": "super"}[preset]
    for row in table.to_dict("records"):
        condition, means = f"{row['weights']}, {row['maps']}", np.zeros(5)
        for seed in (3, 1):
            if row["heads"] == "all":
                totals = count_patterns(made, seed, condition).sum(axis=(0, 1))
            else:
                counts = count_patterns(made, seed, condition, within=inside)
                kept = made.subnetwork(seed, "super", "good").heads
                totals = sum(counts[place] for place in zip(*np.nonzero(kept), strict=True))
            means += totals / totals.sum() / 2
        assert [row[pattern] for pattern in PATTERNS] == pytest.approx(means.tolist())
        assert sum(means) == pytest.approx(1)


def test_one_seed_has_no_super_survivors(opened):
    assert shares_table(opened(seeds=[3]))["heads"].tolist() == ["all"] * 4


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
    trained = []

    def train(maps, codes, seed):
        assert len(maps) == len(codes) == 10
        trained.append(seed)
        return "a classifier"

    monkeypatch.setattr(pattern_counts, "GENERATED_MAPS", 10)
    monkeypatch.setattr(pattern_counts, "train_cnn", train)
    monkeypatch.setattr(pattern_counts, "save_cnn", lambda cnn, path: path.write_text(cnn))
    monkeypatch.setattr(pattern_counts, "load_cnn", lambda path: path.read_text())
    store = RunStore(tmp_path)
    assert [classifier(store) for _ in range(3)] == ["a classifier"] * 3
    assert trained == [pattern_counts.CNN_SEED]
