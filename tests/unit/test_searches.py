"""How each method finds its good subnetwork, on a small model whose every part matters."""

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch

import lotterylib.batches
import lotterylib.data.glue
import lotterylib.runs.searches
from lotterylib.batches import Encoded
from lotterylib.encoder import prunable_weights
from lotterylib.finetuning import train
from lotterylib.importance import Importance, measure
from lotterylib.magnitude import pruned_counts
from lotterylib.runs.experiment import open_experiment
from lotterylib.runs.methods import ALL_METHODS
from lotterylib.runs.searches import configuration, find_good, ranking_of, searched_rows
from lotterylib.runs.settings import parse_settings
from lotterylib.scoring import evaluate
from lotterylib.structured import prune_least_important
from lotterylib.subnetworks import StructuredSubnetwork, bad_like, full_subnetwork

SEEDS = (3, 1)
WITH_TRACES = [name for name, m in ALL_METHODS.items() if m.way in ("search", "to half")]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An experiment whose labels are what its two fine-tuned models say on average.

    So the full models score well, and what is pruned costs something.
    """
    amounts = {"train_rows": 60, "dev_rows": 40, "max_length": 24, "epochs": 3, "seeds": SEEDS}
    amounts |= {"budget": "smoke", "learning_rate": 3e-3}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lotterylib.data.glue, "BUNDLED_ROWS", {"train": 60, "validation": 60})
        store = str(tmp_path_factory.mktemp("runs"))
        made = open_experiment(parse_settings("similarity", encoder="tiny", store=store, **amounts))
        assert max(made.splits[0].lengths) == 24
    made.settings = made.settings.but(magnitude_max_steps=20)

    def relabelled(split):
        said = [evaluate(made.finetuned(seed), split, made.task).predictions for seed in SEEDS]
        said = [(np.array(values) - np.mean(values)) / np.std(values) for values in said]
        labels = torch.tensor(np.mean(said, axis=0), dtype=torch.float32)
        return Encoded(split.features, labels, split.tokenizer)

    made.splits = tuple(map(relabelled, made.splits))
    return made


def changed(made, **fields):
    """The same experiment under another preset: same models, examples and store."""
    other = copy.copy(made)
    other.settings = made.settings.but(**fields)
    return other


def good(made, method, seed=3):
    return made.subnetwork(seed, method, "good")


def found(made, method, seed=3):
    """What is found without the store."""
    return find_good(made, seed, method, lambda share, words: None)


def network(row):
    return StructuredSubnetwork(np.array(row["heads"], bool), np.array(row["mlps"], bool))


# --- the searches --------------------------------------------------------------


@pytest.mark.parametrize("name", WITH_TRACES)
def test_what_is_kept_is_the_last_state_that_keeps_the_methods_share_of_the_score(made, name):
    trace, kept, method = made.trace(3, name), good(made, name), ALL_METHODS[name]
    last = [row for row in trace if row["kept"]][-1]
    if method.is_structured:
        assert kept == network(last)
        assert last["density"] == kept.density(made.shape)
    else:
        assert kept.capacity - kept.size == last["pruned"]
        assert kept == ranking_of(made.finetuned(3)).smallest_pruned(last["pruned"])
    if method.way == "search":
        share = method.threshold or 0.9
        assert all(row["kept"] == (row["score"] >= share * trace[0]["score"]) for row in trace[1:])
        assert not all(row["kept"] for row in trace)  # so there was something to decide


@pytest.mark.parametrize("method", ["structured", "magnitude", "disjoint"])
def test_every_state_is_told(made, method):
    told = []
    trace, _ = find_good(made, 3, method, lambda share, words: told.append((share, words)))
    for row, (share, words) in zip(trace, told, strict=True):
        assert f"{row['score']:.3f}" in words
        assert 0 <= share <= 0.95


def test_a_search_for_one_part_keeps_all_of_the_other(made):
    for part, other in (("heads", "mlps"), ("mlps", "heads")):
        assert getattr(good(made, part), other).all()
        assert not getattr(good(made, part), part).all()
        assert {row["phase"] for row in made.trace(1, part)} == {"full", part}


def test_a_search_for_heads_leaves_every_layer_as_many_as_the_preset_says(made):
    for least in (0, 1, 2):
        endless = changed(made, threshold=-100.0, min_heads_per_layer=least)
        trace, kept = found(endless, "heads")
        assert kept.heads.sum(1).tolist() == [least] * 3
        assert kept.mlps.all()
        assert all((network(row).heads.sum(1) >= least).all() for row in trace)
    sparing = changed(made, min_heads_per_layer=1)
    assert found(sparing, "structured")[0] == made.trace(3, "structured")


@pytest.mark.parametrize("stale", [False, True])
def test_every_step_prunes_what_the_preset_calls_least_important(made, stale):
    trace = found(changed(made, stale_importance=stale), "structured")[0]
    best = basis = trace[0]
    fresh_starts = 0
    for before, row in pairwise(trace):
        if row["phase"] != before["phase"]:
            basis = before if stale else best
            fresh_starts += before is not best
        importance = Importance(*(np.array(basis[f"{p}_importance"]) for p in ("head", "mlp")))
        lost = int(row["phase"] != "mlps"), int(row["phase"] != "heads")
        assert network(row) == prune_least_important(network(best), importance, *lost)
        if row["kept"]:
            best = basis = row
    assert fresh_starts == 2  # both later phases began after a failure


@pytest.mark.parametrize("accumulation", ["example", "batch", "cumulative"])
def test_importance_is_measured_as_the_preset_says(made, accumulation, monkeypatch):
    monkeypatch.setattr("lotterylib.importance.EVALUATION_BATCH", 16)
    first = found(changed(made, importance=accumulation), "structured")[0][0]
    full = full_subnetwork(made.shape)
    wanted, score = measure(made.finetuned(3), made.splits[1], made.task, full, accumulation)
    assert first["head_importance"] == wanted.heads.tolist()
    assert first["mlp_importance"] == wanted.mlps.tolist()
    assert first["score"] == score.metrics["pearson"]
    if accumulation != "example":
        assert first["head_importance"] != made.trace(3, "structured")[0]["head_importance"]


def test_weights_go_in_steps_of_the_share_that_is_set(made):
    trace, _ = found(changed(made, magnitude_step=0.05), "magnitude")
    total = sum(p.numel() for p in prunable_weights(made.pretrained(3)).values())
    assert [row["pruned"] for row in trace] == list(pruned_counts(total, 0.05, len(trace) - 1))
    assert len(trace) > 2


@pytest.mark.parametrize(
    ("choice", "metric"), [("reported", "pearson"), ("official", "pearson_spearman")]
)
@pytest.mark.parametrize("method", ["structured", "magnitude"])
def test_the_stop_metric_decides_the_searches(made, choice, metric, method):
    other = changed(made, stop_metric=choice)
    full = evaluate(made.finetuned(3), made.splits[1], made.task).metrics
    assert other.stop_metric == metric
    assert full["pearson"] != pytest.approx(full["pearson_spearman"], abs=1e-6)
    assert found(other, method)[0][0]["score"] == pytest.approx(full[metric], abs=1e-6)


# --- other examples ------------------------------------------------------------


@pytest.mark.parametrize(("train_rows", "dev"), [(10, 2), (60, 7), (30, 40), (5000, 277)])
def test_a_search_sees_all_of_dev_or_a_half_or_as_many_training_rows(train_rows, dev):
    for name, method in ALL_METHODS.items():
        rows = searched_rows(method, train_rows, dev)
        most = {"train": train_rows, "half": dev, "dev": dev}[method.searched_on]
        count = {"train": min(dev, train_rows), "half": dev // 2, "dev": dev}[method.searched_on]
        assert len(rows) == count
        assert np.array_equal(rows, np.unique(rows))  # ascending, none twice
        assert set(rows) <= set(range(most))
        if 10 < count < most:
            assert rows.tolist() != list(range(count))  # drawn, not the first ones
            assert rows.tolist() != searched_rows(method, train_rows, dev, 1).tolist()
        if name.startswith("structured-"):  # both methods see the same
            twin = ALL_METHODS[name.replace("structured", "magnitude")]
            assert np.array_equal(rows, searched_rows(twin, train_rows, dev))


@pytest.mark.parametrize("kind", ["structured", "magnitude"])
@pytest.mark.parametrize(("where", "place"), [("half-dev", 1), ("train", 0)])
def test_a_search_looks_at_the_labels_of_its_rows_and_no_others(made, kind, where, place):
    method = f"{kind}-{where}"
    rows = searched_rows(ALL_METHODS[method], 60, 40)
    seen = made.splits[place].subset(rows.tolist())
    trace = made.trace(3, method)
    score = evaluate(made.finetuned(3), seen, made.task).metrics["pearson"]
    assert trace[0]["score"] == pytest.approx(score, abs=1e-6)
    other, splits = copy.copy(made), []
    for number, split in enumerate(made.splits):
        labels = split.labels.clone()
        unseen = ~np.isin(np.arange(len(split)), rows) | (number != place)
        labels[torch.from_numpy(unseen)] = labels[torch.from_numpy(unseen)].flip(0)
        assert not torch.equal(labels, split.labels)
        splits.append(Encoded(split.features, labels, split.tokenizer))
    other.splits = tuple(splits)
    assert found(other, method) == (trace, good(made, method))


# --- methods made of others ----------------------------------------------------


def test_a_union_prunes_what_either_search_pruned_and_super_survivors_what_any_seed_did(made):
    one, other = (good(made, "structured", seed) for seed in SEEDS)
    assert one != other
    for seed in SEEDS:
        heads, mlps = good(made, "heads", seed).heads, good(made, "mlps", seed).mlps
        assert good(made, "union", seed) == StructuredSubnetwork(heads, mlps)
        both = StructuredSubnetwork(one.heads & other.heads, one.mlps & other.mlps)
        assert good(made, "super", seed) == both
        assert made.trace(seed, "union") == made.trace(seed, "super") == []


@pytest.mark.parametrize("seed", SEEDS)
def test_half_shares_nothing_with_a_bad_one_of_its_size(made, seed):
    half = good(made, "disjoint", seed)
    assert (half.heads.sum(), half.mlps.sum()) == (6, 1)  # of 12 and 3
    bad = made.subnetwork(seed, "disjoint", "bad")
    assert bad == bad_like(half, seed)
    assert half.shared_share(bad, made.shape) == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_matched_weights_are_as_many_as_the_structured_parameters(made, seed):
    matched, structured = good(made, "matched", seed), good(made, "structured", seed)
    gap = matched.density(made.shape) - structured.density(made.shape)
    assert 0 < matched.size < matched.capacity
    assert abs(gap) * made.shape.encoder_parameters <= 0.5
    pruned = matched.capacity - matched.size
    assert matched == ranking_of(made.finetuned(seed)).smallest_pruned(pruned)


def test_matched_weights_cannot_be_fewer_than_none(made):
    """Without heads and MLPs even the biases are gone that are never ranked."""
    _, nothing = found(changed(made, threshold=-100.0), "matched")
    assert nothing.size == 0
    assert nothing.capacity < made.shape.encoder_parameters


def test_weights_before_fine_tuning_are_the_largest_pre_trained_ones(made):
    like, kept = good(made, "magnitude"), good(made, "before")
    pruned = like.capacity - like.size
    assert kept == ranking_of(made.pretrained(3)).smallest_pruned(pruned) != like


def test_iterative_pruning_goes_back_and_trains_between_equal_ratios(made):
    """The three rounds written out."""
    like = good(made, "magnitude")
    ratio = (like.size / like.capacity) ** (1 / 3)
    model, states = made.finetuned(3), []
    for number in (1, 2, 3):
        pruned = like.capacity - round(like.capacity * ratio**number)
        states.append(ranking_of(model).smallest_pruned(pruned))
        model = made.pretrained(3)
        train(model, made.splits[0], made.task, made.recipe, 3, states[-1])
    told = []
    trace, kept = find_good(made, 3, "iterative", lambda share, words: told.append(share))
    assert (trace, kept) == ([], states[-1])
    assert kept == good(made, "iterative") != like
    for before, after in pairwise(states):
        assert after.overlap(before) == {"weights": 1.0}  # what is pruned stays pruned
    sizes = [like.capacity, *(state.size for state in states)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == like.size
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1)


# --- what the results depend on ------------------------------------------------


def test_configurations_name_what_they_depend_on(made):
    """Changing one thing changes the key of what depends on it, and of nothing else."""
    everything = set(ALL_METHODS)
    structured = {name for name, m in ALL_METHODS.items() if m.is_structured} | {"matched"}
    magnitude = everything - structured
    # a threshold of their own replaces the preset's, and the score does not decide the half
    own = {name for name, m in ALL_METHODS.items() if m.threshold} | {"disjoint"}
    cases = (
        ({"threshold": 0.7}, everything - own),
        ({"magnitude_step": 0.2}, magnitude),
        ({"magnitude_of": "initial"}, magnitude),
        ({"magnitude_max_steps": 3}, magnitude),
        ({"heads_step": 0.2}, structured),
        ({"heads_alone_step": 0.2}, structured),
        ({"importance": "batch"}, structured),
        ({"stale_importance": True}, structured),
        ({"stop_metric": "official"}, everything),
        ({"rounds": 4}, {"iterative"}),
        ({"min_heads_per_layer": 1}, {"heads", "union"}),
        ({"random_structured": "bernoulli", "bad_magnitude": "lowest"}, set()),
    )
    keys = {name: made.search_key(3, name).digest for name in ALL_METHODS}
    for fields, wanted in cases:
        other = changed(made, **fields)
        differing = {name for name in keys if other.search_key(3, name).digest != keys[name]}
        assert differing == wanted, fields
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lotterylib.runs.searches, "HALVES_SEED", 1)
        half = {name for name in everything if ALL_METHODS[name].searched_on != "dev"}
        assert {n for n in keys if made.search_key(3, n).digest != keys[n]} == half


def test_super_survivors_depend_on_all_seeds_in_any_order(made):
    def key(*seeds):
        return changed(made, seeds=seeds).search_key(3, "super").digest

    assert key(3, 1) == key(1, 3) == made.search_key(1, "super").digest
    assert len({key(3, 1), key(3, 2), key(3, 1, 2)}) == 3
    assert configuration(made, 3, ALL_METHODS["super"]).keys() == {"of"}
