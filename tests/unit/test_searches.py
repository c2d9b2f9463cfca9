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
from lotterylib.runs.searches import (
    configuration,
    find_good,
    ranking_of,
    searched_rows,
    settings_of,
)
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
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lotterylib.data.glue, "BUNDLED_ROWS", {"train": 60, "validation": 60})
        settings = parse_settings(
            "similarity",
            encoder="tiny",
            budget="smoke",
            seeds=SEEDS,
            train_rows=60,
            dev_rows=40,
            max_length=24,
            epochs=3,
            learning_rate=3e-3,
            store=str(tmp_path_factory.mktemp("runs")),
        )
        made = open_experiment(settings)
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


@pytest.mark.parametrize("method", WITH_TRACES)
def test_what_is_kept_is_the_last_state_that_passed(made, method):
    trace = made.trace(3, method)
    last = [row for row in trace if row["kept"]][-1]
    if ALL_METHODS[method].is_structured:
        assert good(made, method) == network(last)
        assert last["density"] == good(made, method).density(made.shape)
    else:
        whole = good(made, method)
        assert whole.capacity - whole.size == last["pruned"]
        assert whole == ranking_of(made.finetuned(3)).smallest_pruned(last["pruned"])


@pytest.mark.parametrize("method", [name for name in WITH_TRACES if name != "disjoint"])
def test_a_state_passes_that_keeps_the_methods_share_of_the_score(made, method):
    trace = made.trace(3, method)
    share = ALL_METHODS[method].threshold or 0.9
    assert all(row["kept"] == (row["score"] >= share * trace[0]["score"]) for row in trace[1:])
    assert not all(row["kept"] for row in trace)  # so there was something to decide


def test_every_state_is_told(made):
    told = []
    for method in ("structured", "magnitude", "disjoint"):
        trace, _ = find_good(made, 3, method, lambda share, words: told.append((share, words)))
        assert len(told) == len(trace)
        scores = [f"{row['score']:.3f}" for row in trace]
        assert all(score in words for score, (_, words) in zip(scores, told, strict=True))
        assert all(0 <= share <= 0.95 for share, _ in told)
        told.clear()


def test_a_search_for_one_part_keeps_all_of_the_other(made):
    for seed in SEEDS:
        assert good(made, "heads", seed).mlps.all()
        assert good(made, "mlps", seed).heads.all()
    assert not good(made, "heads").heads.all()
    assert not good(made, "mlps").mlps.all()
    for part in ("heads", "mlps"):
        assert {row["phase"] for row in made.trace(1, part)} == {"full", part}


def test_a_search_for_heads_leaves_every_layer_as_many_as_the_preset_says(made):
    for least, left in ((0, [0, 0, 0]), (1, [1, 1, 1]), (2, [2, 2, 2])):
        endless = changed(made, threshold=-100.0, min_heads_per_layer=least)
        trace, kept = found(endless, "heads")
        assert kept.heads.sum(1).tolist() == left
        assert kept.mlps.all()
        assert all((network(row).heads.sum(1) >= least).all() for row in trace)
    sparing = changed(made, min_heads_per_layer=1)
    assert (good(sparing, "heads").heads.sum(1) >= 1).all()
    assert found(sparing, "structured")[0] == made.trace(3, "structured")


@pytest.mark.parametrize("stale", [False, True])
def test_every_step_prunes_what_the_preset_calls_least_important(made, stale):
    trace = made.trace(3, "structured") if not stale else None
    trace = trace or found(changed(made, stale_importance=True), "structured")[0]
    best = basis = trace[0]
    fresh_starts = 0
    for before, row in pairwise(trace):
        if row["phase"] != before["phase"]:
            basis = before if stale else best
            fresh_starts += before is not best
        state = network(best)
        heads = 1 if row["phase"] != "mlps" else 0
        mlps = 1 if row["phase"] != "heads" else 0
        importance = Importance(*(np.array(basis[f"{p}_importance"]) for p in ("head", "mlp")))
        assert network(row) == prune_least_important(state, importance, heads, mlps)
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


@pytest.mark.parametrize("preset", ["paper", "official"])
def test_weights_go_in_the_presets_steps(made, preset):
    share = {"paper": 0.1, "official": 0.05}[preset]
    step = parse_settings("rte", preset=preset).magnitude_step
    assert step == share
    trace, _ = found(changed(made, magnitude_step=step), "magnitude")
    total = sum(p.numel() for p in prunable_weights(made.pretrained(3)).values())
    assert [row["pruned"] for row in trace] == list(pruned_counts(total, share, len(trace) - 1))
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


# --- other thresholds ----------------------------------------------------------


def test_a_method_has_its_own_threshold_or_the_presets():
    preset = parse_settings("rte", preset="official")
    for name, method in ALL_METHODS.items():
        threshold = {"95": 0.95, "80": 0.8}.get(name[-2:], 0.9)
        assert settings_of(method, preset) == preset.but(threshold=threshold)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_stricter_search_for_weights_is_cut_short(made, seed):
    names = ("magnitude-95", "magnitude", "magnitude-80")
    traces = [made.trace(seed, name) for name in names]
    for shorter, longer in pairwise(traces):
        assert len(shorter) <= len(longer)
        for one, other in zip(shorter, longer, strict=False):
            assert {**one, "kept": 0} == {**other, "kept": 0}
        assert shorter[:-1] == longer[: len(shorter) - 1]
    sizes = [good(made, name, seed).size for name in names]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_stricter_structured_search_takes_no_more_common_steps(made, seed):
    """Later phases start from different states, where a stricter search can end up smaller."""
    names = ("structured-95", "structured", "structured-80")
    traces = [
        [row for row in made.trace(seed, name) if row["phase"] in ("full", "together")]
        for name in names
    ]
    for shorter, longer in pairwise(traces):
        assert shorter[:-1] == longer[: len(shorter) - 1]
        assert {**shorter[-1], "kept": 0} == {**longer[len(shorter) - 1], "kept": 0}
    assert len(traces[0]) < len(traces[-1])


# --- other examples ------------------------------------------------------------


@pytest.mark.parametrize("dev", [2, 7, 40, 277, 1043])
def test_a_search_on_half_sees_one_half_of_dev(dev):
    rows = searched_rows(ALL_METHODS["structured-half-dev"], 5000, dev)
    rest = np.setdiff1d(np.arange(dev), rows)
    assert len(rows) == dev // 2
    assert len(rest) == dev - dev // 2
    assert np.array_equal(rows, np.unique(rows))  # ascending, none twice
    assert rows.min() >= 0
    for name, train_rows in (("structured-half-dev", 5000), ("magnitude-half-dev", 10)):
        assert np.array_equal(rows, searched_rows(ALL_METHODS[name], train_rows, dev))
    if dev > 10:
        assert rows.tolist() != list(range(dev // 2))  # drawn, not the first ones


@pytest.mark.parametrize(("train_rows", "dev"), [(60, 40), (5000, 277), (30, 40)])
def test_a_search_on_training_rows_sees_as_many_as_dev_has(train_rows, dev):
    rows = searched_rows(ALL_METHODS["magnitude-train"], train_rows, dev)
    assert len(rows) == min(dev, train_rows)
    assert np.array_equal(rows, np.unique(rows))
    assert rows.max() < train_rows
    assert np.array_equal(rows, searched_rows(ALL_METHODS["structured-train"], train_rows, dev))


def test_the_other_searches_see_all_of_dev():
    for method in ALL_METHODS.values():
        if method.searched_on == "dev":
            assert searched_rows(method, 60, 40).tolist() == list(range(40))


@pytest.mark.parametrize("kind", ["structured", "magnitude"])
@pytest.mark.parametrize(("where", "place"), [("half-dev", 1), ("train", 0)])
def test_a_search_looks_at_the_labels_of_its_rows_and_no_others(made, kind, where, place):
    method = f"{kind}-{where}"
    rows = searched_rows(ALL_METHODS[method], 60, 40)
    seen = made.splits[place].subset(rows.tolist())
    trace = made.trace(3, method)
    score = evaluate(made.finetuned(3), seen, made.task).metrics["pearson"]
    assert trace[0]["score"] == pytest.approx(score, abs=1e-6)

    def with_labels_mixed(inside):
        splits = []
        for number, split in enumerate(made.splits):
            mine = np.isin(np.arange(len(split)), rows) & (number == place)
            labels = split.labels.clone()
            chosen = torch.from_numpy(mine if inside else ~mine)
            labels[chosen] = labels[chosen].flip(0)
            splits.append(Encoded(split.features, labels, split.tokenizer))
        other = copy.copy(made)
        other.splits = tuple(splits)
        return other

    elsewhere, here = with_labels_mixed(inside=False), with_labels_mixed(inside=True)
    assert not any(
        torch.equal(one.labels, other.labels)
        for one, other in zip(elsewhere.splits, made.splits, strict=True)
    )
    again, kept = found(elsewhere, method)
    assert again == trace
    assert kept == good(made, method)
    assert found(here, method)[0][0]["score"] != trace[0]["score"]


# --- methods made of others ----------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_a_union_prunes_what_either_search_pruned(made, seed):
    union = good(made, "union", seed)
    assert np.array_equal(union.heads, good(made, "heads", seed).heads)
    assert np.array_equal(union.mlps, good(made, "mlps", seed).mlps)
    assert made.trace(seed, "union") == []


def test_super_survivors_are_what_the_structured_search_kept_for_every_seed(made):
    one, other = (good(made, "structured", seed) for seed in SEEDS)
    assert one != other
    for seed in SEEDS:
        survivors = good(made, "super", seed)
        assert np.array_equal(survivors.heads, one.heads & other.heads)
        assert np.array_equal(survivors.mlps, one.mlps & other.mlps)
        assert made.trace(seed, "super") == []


@pytest.mark.parametrize("seed", SEEDS)
def test_half_shares_nothing_with_a_bad_one_of_its_size(made, seed):
    half = good(made, "disjoint", seed)
    assert (half.heads.sum(), half.mlps.sum()) == (6, 1)  # of 12 and 3
    states = [network(row) for row in made.trace(seed, "disjoint")]
    assert states[0] == full_subnetwork(made.shape)
    for before, after in pairwise(states):
        assert not (after.heads & ~before.heads).any()
        assert not (after.mlps & ~before.mlps).any()
    bad = made.subnetwork(seed, "disjoint", "bad")
    assert bad == bad_like(half, seed)
    assert half.shared_share(bad, made.shape) == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_matched_weights_are_as_many_as_the_structured_parameters(made, seed):
    matched, structured = good(made, "matched", seed), good(made, "structured", seed)
    total = made.shape.encoder_parameters
    wanted = structured.density(made.shape) * total
    assert 0 < matched.size < matched.capacity
    assert abs(matched.density(made.shape) * total - wanted) <= 0.5
    pruned = matched.capacity - matched.size
    assert matched == ranking_of(made.finetuned(seed)).smallest_pruned(pruned)


def test_matched_weights_cannot_be_fewer_than_none(made):
    """Without heads and MLPs even the biases are gone that are never ranked."""
    _, nothing = found(changed(made, threshold=-100.0), "matched")
    assert nothing.size == 0
    assert nothing.capacity < made.shape.encoder_parameters


@pytest.mark.parametrize("method", ["before", "iterative"])
@pytest.mark.parametrize("seed", SEEDS)
def test_weights_chosen_otherwise_are_as_many_as_the_magnitude_search_kept(made, method, seed):
    like, other = good(made, "magnitude", seed), good(made, method, seed)
    assert other.size == like.size
    assert other.capacity == like.capacity
    assert other != like


def test_weights_before_fine_tuning_are_the_largest_pre_trained_ones(made):
    kept = good(made, "before").weights
    flat = [
        (np.abs(value.detach().numpy()), kept[name])
        for name, value in prunable_weights(made.pretrained(3)).items()
    ]
    inside = np.concatenate([value[mask] for value, mask in flat])
    outside = np.concatenate([value[~mask] for value, mask in flat])
    assert inside.min() >= outside.max()


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
    assert trace == []
    assert kept == states[-1]
    assert kept == good(made, "iterative")
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
    searches = {name for name, m in ALL_METHODS.items() if m.way == "search"}
    weights = {name for name, m in ALL_METHODS.items() if not m.is_structured}
    structured = set(ALL_METHODS) - weights
    from_magnitude = {name for name in searches & weights} | {"before", "iterative"}
    from_structured = structured | {"matched"}
    half = {name for name in ALL_METHODS if ALL_METHODS[name].searched_on != "dev"}
    # a threshold of their own replaces the preset's, and the score does not decide the half
    own = {name for name, m in ALL_METHODS.items() if m.threshold} | {"disjoint"}
    cases = (
        ({"threshold": 0.7}, set(ALL_METHODS) - own),
        ({"magnitude_step": 0.2}, from_magnitude),
        ({"magnitude_max_steps": 3}, from_magnitude),
        ({"heads_step": 0.2}, from_structured),
        ({"importance": "batch"}, from_structured),
        ({"stale_importance": True}, from_structured),
        ({"stop_metric": "official"}, set(ALL_METHODS)),
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
        assert {n for n in keys if made.search_key(3, n).digest != keys[n]} == half


def test_super_survivors_depend_on_all_seeds_in_any_order(made):
    def key(*seeds):
        other = copy.copy(made)
        other.settings = made.settings.but(seeds=seeds)
        return other.search_key(3, "super").digest

    assert key(3, 1) == key(1, 3) == made.search_key(1, "super").digest
    assert len({key(3, 1), key(3, 2), key(3, 1, 2)}) == 3
    assert configuration(made, 3, ALL_METHODS["super"]).keys() == {"of"}
