"""The stages ask the store first, and each builds on the one before."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

import lotterylib.batches
import lotterylib.data.glue
import lotterylib.runs.experiment
import lotterylib.runs.pattern_counts
import lotterylib.runs.searches
from lotterylib.data.files import read_json
from lotterylib.data.loading import load_model
from lotterylib.finetuning import train
from lotterylib.gates import gate_values, gated, remove, zero_pruned_weights
from lotterylib.importance import measure
from lotterylib.runs.jobs import Job, compute, is_done, jobs_of, key_of
from lotterylib.runs.methods import ALL_METHODS, KINDS
from lotterylib.runs.searches import ranking_of
from lotterylib.scoring import evaluate
from lotterylib.subnetworks import (
    StructuredSubnetwork,
    bad_like,
    full_subnetwork,
    random_like,
)
from lotterylib.super_survivors import bad_super, random_super
from tests.small import half_of, small_experiment


@pytest.fixture(scope="module", autouse=True)
def _small(small_runs):
    """All of this file runs on few rows."""


def seeded(made):
    """The jobs that belong to a seed: all but the baseline and the classifier."""
    return [job for job in jobs_of(made.settings) if job.stage not in ("baseline", "classifier")]


def silent(share, found):
    pass


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """An experiment of which every job of the core pages has been computed."""
    root = tmp_path_factory.mktemp("runs")
    made = small_experiment(root, seeds=[3, 1])
    found = [compute(made, job, silent) for job in jobs_of(made.settings)]
    return made, found


def test_the_jobs_are_the_whole_grid_in_order(tmp_path):
    made = small_experiment(tmp_path, seeds=[3, 1])
    labels = [(job.seed, job.label) for job in jobs_of(made.settings)]
    grid = [f"{phase} {{}} {kind}" for kind in KINDS for phase in ("pruned", "retrained")]
    of_a_seed = ["finetune"]
    for method in ("structured", "magnitude"):
        of_a_seed += [f"search {method}", *(label.format(method) for label in grid)]
    of_a_seed += [f"importance {kind}" for kind in ("example", "batch", "cumulative")]
    of_a_seed += [
        f"patterns {weights}, {kind}"
        for weights in ("fine-tuned", "pre-trained")
        for kind in ("raw", "normed")
    ]
    over_seeds = ["search super", *(label.format("super") for label in grid)]
    assert labels == [
        (0, "baseline frozen"),
        (0, "classifier"),
        *itertools.product([3, 1], of_a_seed),
        *itertools.product([3, 1], over_seeds),
    ]
    assert len(set(labels)) == len(labels) == 2 + 2 * 22 + 2 * 7


def test_nothing_is_computed_twice(done, monkeypatch):
    made, found = done
    assert all(is_done(made, job) for job in jobs_of(made.settings))
    again = small_experiment(made.settings.store, seeds=[3, 1])

    def fail(*_, **__):
        raise AssertionError("computed again")

    for module, names in (
        (
            lotterylib.runs.experiment,
            "train evaluate measure find_good random_like bad_like load_model",
        ),
        (lotterylib.runs.searches, "search_structured search_magnitude super_survivors"),
        (lotterylib.runs.pattern_counts, "maps_of"),
    ):
        for name in names.split():
            monkeypatch.setattr(module, name, fail)
    for name in lotterylib.baselines.BASELINES:
        monkeypatch.setitem(lotterylib.baselines.BASELINES, name, fail)
    again.shape = made.shape  # the only thing that a model is loaded for
    assert [compute(again, job, silent) for job in jobs_of(again.settings)] == found


@pytest.mark.parametrize("kind", KINDS)
def test_a_pruned_score_is_that_of_the_fine_tuned_model_without_what_is_pruned(done, kind):
    made, _ = done
    dev = made.splits[1]
    structured = made.subnetwork(3, "structured", kind)
    model = made.finetuned(3)
    with gated(model, *gate_values(structured)):
        wanted = evaluate(model, dev, made.task)
    assert made.score(3, "structured", kind, "pruned") == wanted
    zero_pruned_weights(model, made.subnetwork(3, "magnitude", kind))
    assert made.score(3, "magnitude", kind, "pruned") == evaluate(model, dev, made.task)


def test_the_fine_tuned_model_is_the_stored_one(done):
    made, _ = done
    assert evaluate(made.finetuned(3), made.splits[1], made.task) == made.full_score(3)
    assert len(made.losses(3)) == 1
    fresh = load_model(made.encoder, made.task, 3)
    assert all(
        torch.equal(one, other)
        for one, other in zip(
            made.pretrained(3).state_dict().values(), fresh.state_dict().values(), strict=True
        )
    )


@pytest.mark.parametrize("accumulation", ["example", "batch", "cumulative"])
def test_importance_is_that_of_the_full_model(done, accumulation):
    made, _ = done
    full = full_subnetwork(made.shape)
    wanted, _ = measure(made.finetuned(1), made.splits[1], made.task, full, accumulation)
    stored = made.importance(1, accumulation)
    assert np.array_equal(stored.heads, wanted.heads)
    assert np.array_equal(stored.mlps, wanted.mlps)
    assert (stored.heads > 0).any()


def test_the_majority_is_that_of_the_data_used(tmp_path):
    made = small_experiment(tmp_path)
    labels = np.array(made.data.train["label"])
    common = int(np.bincount(labels).argmax())
    assert set(made.majority().predictions) == {common}
    wanted = (np.array(made.data.dev["label"]) == common).mean()
    assert made.majority().metrics["accuracy"] == pytest.approx(wanted)


# --- keys ----------------------------------------------------------------------


def test_what_changes_a_result_changes_its_key(tmp_path):
    base = small_experiment(tmp_path, seeds=[3, 1])
    data = ({"train_rows": 17}, {"dev_rows": 17}, {"task": "entailment"})
    training = ({"epochs": 2}, {"learning_rate": 0.5}, {"batch_order": "random"})
    others = [small_experiment(tmp_path, seeds=[3, 1], **change) for change in data + training]
    for job in seeded(base):
        paths = [key_of(made, job).path for made in (base, *others)]
        # the pre-trained encoder looks at texts as it did before anything was trained
        untrained = job.stage == "patterns" and job.kind.startswith("pre-trained")
        assert len(set(paths)) == (len(paths) - len(training) if untrained else len(paths))


def test_the_baseline_depends_on_the_data_and_not_on_how_it_is_trained_on(tmp_path):
    changes = ({}, {"epochs": 2, "preset": "official"}, {"train_rows": 17})
    paths = []
    for made in (small_experiment(tmp_path, **change) for change in changes):
        job = jobs_of(made.settings)[0]
        assert job.label == "baseline frozen"
        paths.append(key_of(made, job).path)
    assert paths[0] == paths[1] != paths[2]


def test_a_preset_changes_the_stages_that_it_touches_and_no_others(tmp_path):
    paper, official = (
        small_experiment(tmp_path, preset=name, seeds=[3, 1]) for name in ("paper", "official")
    )
    for job in seeded(paper):
        same = key_of(paper, job).path == key_of(official, job).path
        assert same == (job.stage in ("finetune", "importance"))
    slower = small_experiment(tmp_path, seeds=[3, 1])
    slower.settings = slower.settings.but(magnitude_step=0.05)
    for job in jobs_of(paper.settings):
        same = key_of(paper, job).path == key_of(slower, job).path
        assert same == (job.method != "magnitude")


def test_a_late_stage_computes_what_it_needs_and_no_more(tmp_path):
    made = small_experiment(tmp_path)
    compute(made, Job("pruned", 3, "magnitude", "good"), silent)
    finished = {job.label for job in jobs_of(made.settings) if is_done(made, job)}
    assert finished == {"finetune", "search magnitude", "pruned magnitude good"}


# --- kinds of subnetworks, and phases of scores ----------------------------------


@pytest.fixture
def halves(tmp_path, monkeypatch):
    """Experiments of ten steps of training whose searches find about half, without searching."""
    monkeypatch.setattr(lotterylib.runs.experiment, "find_good", half_of)

    def make(**changes):
        values = {"train_rows": 40, "dev_rows": 20, "epochs": 5, "learning_rate": 3e-3}
        return small_experiment(tmp_path, task="similarity", seeds=[3, 1], **(values | changes))

    return make


@pytest.mark.parametrize("preset", ["paper", "official"])
def test_random_ones_are_sampled_as_the_preset_says(halves, preset):
    made = halves(preset=preset)
    sampling = {"paper": "exact", "official": "bernoulli"}[preset]
    for seed in (3, 1):
        good = made.subnetwork(seed, "structured", "good")
        assert made.subnetwork(seed, "structured", "random") == random_like(good, seed, sampling)
        weights = made.subnetwork(seed, "magnitude", "good")
        assert made.subnetwork(seed, "magnitude", "random") == random_like(weights, seed)
    assert random_like(good, 1, "exact") != random_like(good, 1, "bernoulli")


@pytest.mark.parametrize("preset", ["paper", "official"])
def test_bad_ones_are_sampled_or_the_smallest_weights(halves, preset):
    made = halves(preset=preset)
    good, weights = (made.subnetwork(3, m, "good") for m in ("structured", "magnitude"))
    assert made.subnetwork(3, "structured", "bad") == bad_like(good, 3)
    wanted = bad_like(weights, 3)
    if preset == "official":
        pruned = weights.capacity - weights.size
        wanted = ranking_of(made.finetuned(3)).largest_pruned(pruned)
    assert made.subnetwork(3, "magnitude", "bad") == wanted


def test_an_inverted_one_is_what_was_pruned_of_what_was_searched(halves):
    made = halves()
    for method in ("structured", "heads", "mlps"):
        good, inverted = (made.subnetwork(3, method, kind) for kind in ("good", "inverted"))
        for part in ("heads", "mlps"):
            mine, theirs = getattr(good, part), getattr(inverted, part)
            if part in ALL_METHODS[method].prunes:
                assert np.array_equal(theirs, ~mine)
                assert 0 < theirs.sum() < theirs.size
            else:
                assert theirs.all()
    weights = made.subnetwork(3, "magnitude", "good")
    assert made.subnetwork(3, "magnitude", "inverted") == weights.complement()


@pytest.mark.parametrize("preset", ["paper", "official"])
def test_companions_of_super_survivors_are_drawn_over_the_seeds(halves, preset):
    made = halves(preset=preset)
    good = [made.subnetwork(seed, "structured", "good") for seed in (3, 1)]
    assert good[0] != good[1]
    for seed in (3, 1):
        survivors, random, bad = (made.subnetwork(seed, "super", kind) for kind in KINDS)
        assert np.array_equal(survivors.heads, good[0].heads & good[1].heads)
        assert random == random_super(good, seed)
        assert bad == bad_super(good, seed)
        sizes = {(each.heads.sum(), each.mlps.sum()) for each in (survivors, random, bad)}
        assert len(sizes) == 1


def written(made, *scored):
    """The losses and the score of a phase."""
    score = made.score(3, *scored)
    losses = made.store.root / made.score_key(3, *scored).path / "losses.json"
    return (read_json(losses) if losses.is_file() else []), score


def trained(made, model, subnetwork, recipe=None, part=(0.0, 1.0)):
    """Losses and score of a subnetwork that starts from a model, by hand."""
    weights = None
    if isinstance(subnetwork, StructuredSubnetwork):
        remove(model, subnetwork)
    else:
        weights = zero_pruned_weights(model, subnetwork) and subnetwork
    examples, dev = made.splits
    losses = train(model, examples, made.task, recipe or made.recipe, 3, weights, part=part)
    return losses, evaluate(model, dev, made.task)


METHODS = pytest.mark.parametrize("method", ["structured", "magnitude"])


@METHODS
def test_retraining_starts_from_the_pre_trained_weights(halves, method):
    made = halves()
    losses, score = written(made, method, "good", "retrained")
    assert (losses, score) == trained(made, made.pretrained(3), made.subnetwork(3, method, "good"))
    assert len(losses) == len(made.losses(3)) == 10


def test_retraining_can_keep_the_embeddings_of_the_fine_tuned_model(halves):
    made = halves()
    made.settings = made.settings.but(embeddings="kept")
    model, tuned = made.pretrained(3), made.finetuned(3)
    model.base_model.embeddings.load_state_dict(tuned.base_model.embeddings.state_dict())
    found = written(made, "structured", "good", "retrained")
    assert found == trained(made, model, made.subnetwork(3, "structured", "good"))
    made.settings = made.settings.but(embeddings="reset")
    assert found != written(made, "structured", "good", "retrained")


def test_precision_is_part_of_what_a_result_is(tmp_path):
    made = {name: small_experiment(tmp_path, precision=name) for name in ("auto", "bfloat16")}
    assert made["auto"].finetuned_key(3) != made["bfloat16"].finetuned_key(3)
    assert made["bfloat16"].losses(3) != made["auto"].losses(3)
    np.testing.assert_allclose(made["bfloat16"].losses(3), made["auto"].losses(3), rtol=0.1)
    told = made["bfloat16"].store.provenance(made["bfloat16"].finetuned_key(3))
    assert told["device"] == "CPU, bfloat16"


@METHODS
def test_longer_is_twice_the_epochs(halves, method):
    made = halves()
    losses, score = written(made, method, "bad", "longer")
    twice = dataclasses.replace(made.recipe, epochs=10)
    bad = made.subnetwork(3, method, "bad")
    assert (losses, score) == trained(made, made.pretrained(3), bad, twice)
    assert len(losses) == 2 * len(made.losses(3))
    assert made.recipe.epochs == 5


@METHODS
def test_rewinding_goes_back_to_the_weights_after_a_tenth_of_the_steps(halves, method):
    made, start = halves(), halves().pretrained(3)

    def stop(share, words):
        raise KeyboardInterrupt  # after one step of ten

    with pytest.raises(KeyboardInterrupt):
        train(start, made.splits[0], made.task, made.recipe, 3, progress=stop)
    wanted = trained(made, start, made.subnetwork(3, method, "good"), part=(0.1, 1.0))
    losses, score = written(made, method, "good", "rewound")
    assert (losses, score) == wanted
    assert len(losses) == 9
    assert losses != written(made, method, "good", "retrained")[0][1:]


def test_from_scratch_ignores_the_pre_trained_weights(halves, monkeypatch):
    made = halves()
    random = made.subnetwork(3, "structured", "random")

    def load(encoder, task, seed, pretrained=True):
        return load_model(encoder, task, seed if pretrained else seed + 1000)

    monkeypatch.setattr(lotterylib.runs.experiment, "load_model", load)
    never_learnt = load_model(made.encoder, made.task, 1003)
    wanted = trained(made, never_learnt, random)
    assert written(made, "structured", "random", "from scratch") == wanted
    assert wanted[0] != written(made, "structured", "random", "retrained")[0]


def test_phases_have_keys_of_their_own(tmp_path):
    made = small_experiment(tmp_path)
    phases = ("pruned", "retrained", "longer", "rewound", "from scratch")
    keys = [made.score_key(3, "structured", "good", phase) for phase in phases]
    assert len({key.digest for key in keys}) == len(phases)
    made.settings = made.settings.but(rewind_share=0.2)
    again = [made.score_key(3, "structured", "good", phase) for phase in phases]
    assert [a.digest == b.digest for a, b in zip(again, keys, strict=True)] == [1, 1, 1, 0, 1]


def test_progress_is_told_while_a_model_is_trained(halves):
    made, told = halves(), []
    made.score(3, "structured", "good", "retrained", lambda share, words: told.append(share))
    assert told == pytest.approx(np.arange(1, 11) / 10)
