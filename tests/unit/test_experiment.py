"""The stages ask the store first, and each builds on the one before."""

import dataclasses
from unittest.mock import Mock

import numpy as np
import pytest

import lotterylib.batches
import lotterylib.data.glue
import lotterylib.runs.experiment
import lotterylib.runs.pattern_counts
import lotterylib.runs.searches
from lotterylib.data.files import read_json
from lotterylib.data.loading import load_model
from lotterylib.errors import LotteryError
from lotterylib.finetuning import train
from lotterylib.gates import gate_values, gated, remove, zero_pruned_weights
from lotterylib.importance import measure
from lotterylib.runs.jobs import compute, jobs_of, key_of
from lotterylib.runs.methods import ALL_METHODS, KINDS
from lotterylib.runs.searches import ranking_of
from lotterylib.scoring import evaluate
from lotterylib.subnetworks import (
    StructuredSubnetwork,
    bad_like,
    full_subnetwork,
    random_like,
)
from lotterylib.super_survivors import bad_super, random_super, super_survivors
from tests.small import half_of, is_done, small_experiment


@pytest.fixture(scope="module", autouse=True)
def _small(small_runs):
    """All of this file runs on few rows."""


def seeded(made):
    """The jobs that belong to a seed: all but the baseline and the classifier."""
    return [job for job in jobs_of(made.settings) if job.stage not in ("baseline", "classifier")]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """An experiment of which every job of the core pages has been computed."""
    root = tmp_path_factory.mktemp("runs")
    made = small_experiment(root, seeds=[3, 1], max_length=32)
    found = [compute(made, job) for job in jobs_of(made.settings)]
    return made, found


def test_nothing_is_computed_twice(done, monkeypatch):
    made, found = done
    assert all(is_done(made, job) for job in jobs_of(made.settings))
    again = small_experiment(made.settings.store, seeds=[3, 1], max_length=32)
    fail = Mock(side_effect=AssertionError("computed again"))
    in_experiment = "train evaluate measure find_good random_like bad_like load_model"
    for module, names in (
        (lotterylib.runs.experiment, in_experiment),
        (lotterylib.runs.searches, "search_structured search_magnitude super_survivors"),
        (lotterylib.runs.pattern_counts, "maps_of"),
    ):
        for name in names.split():
            monkeypatch.setattr(module, name, fail)
    for name in lotterylib.baselines.BASELINES:
        monkeypatch.setitem(lotterylib.baselines.BASELINES, name, fail)
    again.shape = made.shape  # the only thing that a model is loaded for
    assert [compute(again, job) for job in jobs_of(again.settings)] == found


@pytest.mark.parametrize("kind", KINDS)
def test_a_pruned_score_is_that_of_the_fine_tuned_model_without_what_is_pruned(done, kind):
    made, _ = done
    model, dev = made.finetuned(3), made.splits[1]
    assert evaluate(model, dev, made.task) == made.full_score(3)
    with gated(model, *gate_values(made.subnetwork(3, "structured", kind))):
        assert made.score(3, "structured", kind, "pruned") == evaluate(model, dev, made.task)
    zero_pruned_weights(model, made.subnetwork(3, "magnitude", kind))
    assert made.score(3, "magnitude", kind, "pruned") == evaluate(model, dev, made.task)


@pytest.mark.parametrize("accumulation", ["example", "batch", "cumulative"])
def test_importance_is_that_of_the_full_model(done, accumulation):
    made, _ = done
    full = full_subnetwork(made.shape)
    wanted, _ = measure(made.finetuned(1), made.splits[1], made.task, full, accumulation)
    stored = made.importance(1, accumulation)
    assert np.array_equal(stored.heads, wanted.heads)
    assert np.array_equal(stored.mlps, wanted.mlps)


def test_the_majority_is_that_of_the_data_used(tmp_path):
    made = small_experiment(tmp_path)
    common = int(np.bincount(made.data.train["label"]).argmax())
    assert set(made.majority().predictions) == {common}
    wanted = (np.array(made.data.dev["label"]) == common).mean()
    assert made.majority().metrics["accuracy"] == pytest.approx(wanted)


# --- keys ----------------------------------------------------------------------


def test_what_changes_a_result_changes_its_key(tmp_path):
    base = small_experiment(tmp_path, seeds=[3, 1])
    data = ({"train_rows": 17}, {"dev_rows": 17}, {"task": "entailment"}, {"max_length": 20})
    training = ({"epochs": 2}, {"learning_rate": 0.5}, {"batch_order": "random"})
    others = [small_experiment(tmp_path, seeds=[3, 1], **change) for change in data + training]
    for job in seeded(base):
        paths = [key_of(made, job).path for made in (base, *others)]
        # the pre-trained encoder looks at texts as it did before anything was trained
        untrained = job.stage == "patterns" and job.kind.startswith("pre-trained")
        if untrained:
            del paths[4]
        assert len(set(paths)) == (len(paths) - len(training) if untrained else len(paths))


def test_the_baseline_depends_on_the_data_and_not_on_how_it_is_trained_on(tmp_path):
    changes = ({}, {"epochs": 2, "preset": "official"}, {"train_rows": 17})
    paths = [small_experiment(tmp_path, **each).baseline_key("frozen").path for each in changes]
    assert paths[0] == paths[1] != paths[2]


# --- kinds of subnetworks, and phases of scores ----------------------------------


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """Experiments of ten steps of training whose searches find about half, without searching; they
    share a store.
    """
    root = tmp_path_factory.mktemp("halves")

    def make(**changes):
        values = {"train_rows": 40, "dev_rows": 20, "epochs": 5, "max_length": 32}
        values |= {"task": "similarity", "learning_rate": 3e-3, "seeds": [3, 1]}
        return small_experiment(root, **(values | changes))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lotterylib.runs.experiment, "find_good", half_of)
        yield make


@pytest.mark.parametrize("preset", ["paper", "official"])
def test_random_and_bad_ones_are_drawn_as_the_preset_says(halves, preset):
    made = halves(preset=preset)
    sampling = {"paper": "exact", "official": "bernoulli"}[preset]
    good, weights = (made.subnetwork(3, m, "good") for m in ("structured", "magnitude"))
    assert made.subnetwork(3, "structured", "random") == random_like(good, 3, sampling)
    assert made.subnetwork(3, "magnitude", "random", number=2) == random_like(weights, 3, number=2)
    assert random_like(good, 3, "exact") != random_like(good, 3, "bernoulli")
    assert made.subnetwork(3, "structured", "bad") == bad_like(good, 3)
    bad = made.subnetwork(3, "magnitude", "bad")
    if preset == "paper":
        assert bad == bad_like(weights, 3)
    else:  # the smallest
        ranking = ranking_of(made.finetuned(3))
        kept = np.concatenate([bad.weights[name].ravel() for name in ranking.shapes])
        assert bad.size == weights.size
        assert ranking.magnitudes[kept].max() <= ranking.magnitudes[~kept].min()


def test_an_inverted_one_is_what_was_pruned_of_what_was_searched(halves):
    made = halves()
    for method in ("structured", "heads", "mlps", "magnitude"):
        good, inverted = (made.subnetwork(3, method, kind) for kind in ("good", "inverted"))
        assert inverted == good.complement(ALL_METHODS[method].prunes) != good


@pytest.mark.parametrize("preset", ["paper", "official"])
def test_companions_of_super_survivors_are_drawn_over_the_seeds(halves, preset):
    made = halves(preset=preset)
    good = [made.subnetwork(seed, "structured", "good") for seed in (3, 1)]
    assert good[0] != good[1]
    for seed in (3, 1):
        found = [made.subnetwork(seed, "super", kind) for kind in KINDS]
        assert found == [super_survivors(good), random_super(good, seed), bad_super(good, seed)]


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


@pytest.mark.parametrize("phase", ["retrained", "longer"])
def test_retraining_can_keep_the_embeddings_of_the_fine_tuned_model(halves, phase):
    made, plain = halves(embeddings="kept"), halves()
    model, tuned = made.pretrained(3), made.finetuned(3)
    model.base_model.embeddings.load_state_dict(tuned.base_model.embeddings.state_dict())
    recipe = dataclasses.replace(made.recipe, epochs=10) if phase == "longer" else made.recipe
    found = written(made, "structured", "good", phase)
    assert found == trained(made, model, made.subnetwork(3, "structured", "good"), recipe)
    assert found != written(plain, "structured", "good", phase)


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
    found = written(made, method, "bad", "longer")
    twice = dataclasses.replace(made.recipe, epochs=10)
    assert found == trained(made, made.pretrained(3), made.subnetwork(3, method, "bad"), twice)
    assert len(found[0]) == 2 * len(made.losses(3))


@METHODS
def test_rewinding_goes_back_to_the_weights_after_a_tenth_of_the_steps(halves, method):
    made, start = halves(), halves().pretrained(3)
    stop = Mock(side_effect=KeyboardInterrupt)  # after one step of ten
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


def test_what_there_is_not_is_refused_and_not_kept(done):
    made, _ = done
    for given, told in (
        (("structured", "badd", "pruned"), "Unknown kind of subnetwork for structured 'badd'"),
        (("super", "inverted", "pruned"), "Unknown kind of subnetwork for super 'inverted'"),
        (("structured", "good", "retrainde"), "phase 'retrainde'. Did you mean 'retrained'"),
    ):
        with pytest.raises(LotteryError, match=told):
            made.score(3, *given)
    with pytest.raises(LotteryError, match="Unknown method 'magnitud'"):
        made.subnetwork(3, "magnitud", "good")
    kept = {file.parts[-3] for file in made.store.root.rglob("manifest.json")}
    assert not [
        name for name in kept if "badd" in name or "inverted" in name or "retrainde" in name
    ]


def test_phases_have_keys_of_their_own(tmp_path):
    made = small_experiment(tmp_path)
    phases = ("pruned", "retrained", "longer", "rewound", "from scratch")
    keys = [made.score_key(3, "structured", "good", phase) for phase in phases]
    assert len({key.digest for key in keys}) == len(phases)
    made.settings = made.settings.but(rewind_share=0.2)
    again = [made.score_key(3, "structured", "good", phase) for phase in phases]
    assert [a.digest == b.digest for a, b in zip(again, keys, strict=True)] == [1, 1, 1, 0, 1]
