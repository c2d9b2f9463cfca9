"""The stages ask the store first, and each builds on the one before."""

import dataclasses

import numpy as np
import pytest
import torch

import lotterylib.data
import lotterylib.experiment
from lotterylib.anatomy import prunable_weights
from lotterylib.experiment import Cell, open_experiment
from lotterylib.gates import gate_values, gated, zero_pruned_weights
from lotterylib.loading import load_model
from lotterylib.scoring import evaluate
from lotterylib.settings import parse_settings

KINDS = ("good", "random", "bad")


def experiment(root, **changes):
    values = {
        "task": "acceptability",
        "encoder": "tiny",
        "budget": "smoke",
        "seeds": [3],
        "train_rows": 16,
        "dev_rows": 16,
        "epochs": 1,
        "store": str(root),
    }
    made = open_experiment(parse_settings(**(values | changes)))
    made.preset = dataclasses.replace(made.preset, magnitude_max_steps=8)
    return made


@pytest.fixture(scope="module", autouse=True)
def _small_data():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lotterylib.data, "BUNDLED_ROWS", {"train": 60, "validation": 60})
        yield


def seeded(made):
    """The cells that belong to a seed: all but the baseline, which has none."""
    return [cell for cell in made.cells() if cell.stage != "frozen"]


@pytest.fixture(scope="module", params=["paper", "official"])
def done(request, tmp_path_factory):
    """An experiment of which every cell has been computed."""
    root = tmp_path_factory.mktemp("runs")
    made = experiment(root, preset=request.param)
    found = [made.compute(cell) for cell in made.cells()]
    return made, found


def test_the_cells_are_the_whole_grid_in_order(tmp_path):
    made = experiment(tmp_path, seeds=[3, 1])
    assert next(made.cells()).stage == "frozen"
    cells = seeded(made)
    assert len(list(made.cells())) == 1 + len(cells)
    assert [cell.seed for cell in cells] == [3] * 15 + [1] * 15
    labels = [cell.label for cell in cells[:15]]
    assert labels[0] == "finetune"
    for start, method in ((1, "structured"), (8, "magnitude")):
        assert labels[start] == f"search {method}"
        assert labels[start + 1 : start + 7] == [
            f"{phase} {method} {kind}" for kind in KINDS for phase in ("pruned", "retrained")
        ]
    assert len({(cell.label, cell.seed) for cell in cells}) == 30


def test_nothing_is_computed_twice(done, monkeypatch):
    made, found = done
    assert all(made.is_done(cell) for cell in made.cells())
    again = experiment(made.settings.store, preset=made.preset.name)

    def fail(*_, **__):
        raise AssertionError("computed again")

    for name in ("train", "search_structured", "search_magnitude", "evaluate", "random_like"):
        monkeypatch.setattr(lotterylib.experiment, name, fail)
    assert [again.compute(cell) for cell in again.cells()] == found


def test_good_random_and_bad_are_of_one_size(done):
    made, _ = done
    exact = made.preset.random_structured == "exact"
    for method in ("structured", "magnitude"):
        good, random, bad = (made.subnetwork(3, method, kind) for kind in KINDS)
        if method == "structured":
            assert (good.heads.sum(), good.mlps.sum()) == (bad.heads.sum(), bad.mlps.sum())
            if exact:
                assert (good.heads.sum(), good.mlps.sum()) == (
                    random.heads.sum(),
                    random.mlps.sum(),
                )
        else:
            assert good.size == random.size == bad.size


def test_the_magnitude_subnetworks_hold_the_largest_and_the_smallest_weights(done):
    made, _ = done
    weights = {n: p.detach().abs().numpy() for n, p in prunable_weights(made.finetuned(3)).items()}

    def magnitudes(kind):
        kept = made.subnetwork(3, "magnitude", kind).weights
        inside = np.concatenate([weights[name][kept[name]] for name in weights])
        outside = np.concatenate([weights[name][~kept[name]] for name in weights])
        return inside, outside

    inside, outside = magnitudes("good")
    if len(inside) and len(outside):
        assert inside.min() >= outside.max()
    if made.preset.bad_magnitude == "lowest":
        inside, outside = magnitudes("bad")
        if len(inside) and len(outside):
            assert inside.max() <= outside.min()


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


def test_the_searches_start_from_the_full_models_score(done):
    made, _ = done
    full = made.full_score(3).metrics[made.stop_metric]
    for method in ("structured", "magnitude"):
        trace = made.trace(3, method)
        assert trace[0]["score"] == pytest.approx(full, abs=1e-6)
        assert trace[0]["kept"]
        kept = [step for step in trace if step["kept"]]
        assert all(step["score"] >= 0.9 * trace[0]["score"] for step in kept[1:])
        good = made.subnetwork(3, method, "good")
        if method == "structured":
            assert kept[-1]["heads"] == good.heads.astype(int).tolist()
            assert kept[-1]["mlps"] == good.mlps.astype(int).tolist()
            assert kept[-1]["density"] == good.density(made.shape)
        else:
            assert good.capacity - good.size == kept[-1]["pruned"]


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


def test_what_changes_a_result_changes_its_key(tmp_path):
    base = experiment(tmp_path)
    changes = (
        {"train_rows": 17},
        {"dev_rows": 17},
        {"epochs": 2},
        {"learning_rate": 0.5},
        {"batch_order": "random"},
        {"task": "entailment"},
    )
    others = [experiment(tmp_path, **change) for change in changes]
    for cell in seeded(base):
        paths = {other.key(cell).path for other in others}
        assert len(paths | {base.key(cell).path}) == len(changes) + 1


def test_the_baseline_depends_on_the_data_and_not_on_how_it_is_trained_on(tmp_path):
    frozen = [
        next(experiment(tmp_path, **change).cells())
        for change in ({}, {"epochs": 2, "preset": "official"}, {"train_rows": 17})
    ]
    paths = [
        experiment(tmp_path, **change).key(cell).path
        for cell, change in zip(frozen, ({}, {"epochs": 2}, {"train_rows": 17}), strict=True)
    ]
    assert paths[0] == paths[1] != paths[2]


def test_a_preset_changes_the_stages_that_it_touches_and_no_others(tmp_path):
    paper, official = (experiment(tmp_path, preset=name) for name in ("paper", "official"))
    differs = {
        cell.label: paper.key(cell) != official.key(cell)
        and paper.key(cell).path != official.key(cell).path
        for cell in seeded(paper)
    }
    assert not differs.pop("finetune")
    assert all(differs.values())
    slower = experiment(tmp_path)
    slower.preset = dataclasses.replace(slower.preset, magnitude_step=0.05)
    for cell in paper.cells():
        same = paper.key(cell).path == slower.key(cell).path
        assert same == (cell.method != "magnitude")


def test_cells_have_keys_of_their_own(tmp_path):
    made = experiment(tmp_path, seeds=[3, 1])
    cells = list(made.cells())
    assert len({made.key(cell).path for cell in cells}) == len(cells)
    assert not any(made.is_done(cell) for cell in cells)


def test_a_late_stage_computes_what_it_needs_and_no_more(tmp_path):
    made = experiment(tmp_path)
    made.compute(Cell("pruned", 3, "magnitude", "good"))
    finished = {cell.label for cell in made.cells() if made.is_done(cell)}
    assert finished == {"finetune", "search magnitude", "pruned magnitude good"}


def test_the_majority_is_that_of_the_data_used(tmp_path):
    made = experiment(tmp_path)
    labels = np.array(made.data.train["label"])
    common = int(np.bincount(labels).argmax())
    assert set(made.majority().predictions) == {common}
    wanted = (np.array(made.data.dev["label"]) == common).mean()
    assert made.majority().metrics["accuracy"] == pytest.approx(wanted)
