"""How each method of `methods` finds its good subnetwork, on the examples it may see.

`configuration` says what the result depends on, for the run store; `find_good` finds it.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import PreTrainedModel

from lotterylib.batches import Encoded
from lotterylib.encoder import Shape, prunable_weights
from lotterylib.finetuning import Progress, silent, train
from lotterylib.gates import zero_pruned_weights
from lotterylib.importance import Importance, measure
from lotterylib.magnitude import MagnitudeStep, Ranking, last_kept, rank, search_magnitude
from lotterylib.runs.methods import ALL_METHODS, Method
from lotterylib.runs.settings import Settings
from lotterylib.scoring import evaluate
from lotterylib.structured import (
    StructuredStep,
    good_subnetwork,
    prune_to_half,
    search_structured,
)
from lotterylib.subnetworks import (
    StructuredSubnetwork,
    Subnetwork,
    WeightSubnetwork,
    full_subnetwork,
)
from lotterylib.super_survivors import super_survivors

if TYPE_CHECKING:
    from lotterylib.runs.experiment import Experiment

HALVES_SEED = 20200558
"""Draws the halves of the dev set and the training rows that a search may see."""

Trace = list[dict[str, Any]]


def configuration(
    experiment: Experiment, seed: int, method: Method, number: int = 0
) -> dict[str, Any]:
    """What the good subnetwork of a method depends on, beside the seed; `number` of the draw."""

    def digest(name: str, seed: int = seed) -> str:
        return experiment.search_key(seed, name).digest

    if method.way == "union":
        return {"of": [digest("heads"), digest("mlps")]}
    if method.way == "agreement":
        return {"of": {str(each): digest("structured", each) for each in experiment.settings.seeds}}
    if method.way == "matched":
        return {"sizes": digest("structured")}
    if method.way in ("pre-trained", "iterative"):
        rounds = {"rounds": experiment.settings.rounds} if method.way == "iterative" else {}
        return {"way": method.way, "sizes": digest("magnitude"), **rounds}
    names = ["threshold", "heads_step", "heads_alone_step", "importance", "stale_importance"]
    if not method.is_structured:
        names = ["threshold", "magnitude_step", "magnitude_of", "magnitude_max_steps"]
    config: dict[str, Any] = {
        "finetuned": experiment.finetuned_key(seed).digest,
        "stop_metric": experiment.stop_metric,
        **{name: getattr(experiment.settings, name) for name in names},
    }
    if method.threshold:
        config["threshold"] = method.threshold
    if method.way == "to half":
        return config | {"way": "half", "threshold": 0}
    if method.prunes == ("heads",):
        config["min_heads_per_layer"] = experiment.settings.min_heads_per_layer
    if len(method.prunes) == 1 and method.is_structured:
        config["prunes"] = method.prunes[0]
    if method.searched_on != "dev":
        config["searched_on"] = [method.searched_on, HALVES_SEED, number]
    return config


def searched_rows(method: Method, train: int, dev: int, number: int = 0) -> np.ndarray:
    """Which rows of splits of these sizes a search sees, ascending: all of dev, one half of it, or
    as many of the training split; `number` is that of the random draw.
    """
    draw = np.random.default_rng([HALVES_SEED, number])
    if method.searched_on == "half":
        return np.sort(draw.permutation(dev)[: dev // 2])
    if method.searched_on == "train":
        return np.sort(draw.permutation(train)[:dev])
    return np.arange(dev)


def find_good(
    experiment: Experiment, seed: int, name: str, report: Progress = silent, number: int = 0
) -> tuple[Trace, Subnetwork]:
    """Find the good subnetwork of a method; arguments as for `Experiment.subnetwork`.

    Returns:
        Every state that a search tried, as plain values (none where there is no search), and the
        subnetwork.
    """
    method = ALL_METHODS[name]

    def good(name: str, seed: int = seed) -> Subnetwork:
        return experiment.subnetwork(seed, name, "good")

    if method.way == "union":
        heads, mlps = good("heads"), good("mlps")
        return [], StructuredSubnetwork(heads.heads, mlps.mlps)  # type: ignore[union-attr]
    if method.way == "agreement":
        return [], super_survivors([good("structured", each) for each in experiment.settings.seeds])  # type: ignore[misc]
    if method.way == "matched":
        ranking = ranking_of(experiment.finetuned(seed))
        spare = (1 - good("structured").density(experiment.shape)) * (
            experiment.shape.encoder_parameters
        )
        return [], ranking.smallest_pruned(min(round(spare), ranking.size))
    if method.way == "pre-trained":
        return [], _largest(experiment.pretrained(seed), good("magnitude"))
    if method.way == "iterative":
        return [], _iterative(experiment, seed, good("magnitude"), report)
    chosen = experiment.settings
    chosen = chosen.but(threshold=method.threshold or chosen.threshold)
    train_split, dev_split = experiment.splits
    rows = searched_rows(method, len(train_split), len(dev_split), number)
    seen = (train_split if method.searched_on == "train" else dev_split).subset(rows.tolist())
    model = experiment.finetuned(seed)
    if method.is_structured:
        return _structured(experiment, model, seen, method, chosen, report)
    return _magnitude(experiment, model, seen, chosen, report)


def _structured(
    experiment: Experiment,
    model: PreTrainedModel,
    seen: Encoded,
    method: Method,
    chosen: Settings,
    report: Progress,
) -> tuple[Trace, Subnetwork]:
    shape = experiment.shape

    def look(subnetwork: StructuredSubnetwork) -> tuple[Importance, float]:
        # Only a search that goes on from the state that failed asks for what it had closed.
        importance, score = measure(
            model, seen, experiment.task, subnetwork, chosen.importance, chosen.stale_importance
        )
        return importance, score.metrics[experiment.stop_metric]

    def on_step(step: StructuredStep) -> None:
        kept = step.subnetwork.density(shape)
        report(min(0.95, 1 - kept), f"{kept:.0%} left scores {step.score:.3f}")

    full = full_subnetwork(shape)
    if method.way == "to half":
        steps = prune_to_half(look, full, chosen.heads_step, on_step)
    else:
        steps = search_structured(
            look,
            full,
            chosen.threshold,
            chosen.heads_step,
            chosen.heads_alone_step,
            chosen.stale_importance,
            chosen.min_heads_per_layer,
            method.prunes,
            on_step,
        )
    return [structured_row(step, shape) for step in steps], good_subnetwork(steps)


def _magnitude(
    experiment: Experiment,
    model: PreTrainedModel,
    seen: Encoded,
    chosen: Settings,
    report: Progress,
) -> tuple[Trace, Subnetwork]:
    dense = {name: value.detach().clone() for name, value in prunable_weights(model).items()}

    def look(subnetwork: WeightSubnetwork) -> float:
        with torch.no_grad():
            for name, parameter in prunable_weights(model).items():
                parameter.copy_(dense[name])
        zero_pruned_weights(model, subnetwork)
        return evaluate(model, seen, experiment.task).metrics[experiment.stop_metric]

    def on_step(step: MagnitudeStep) -> None:
        report(min(0.95, 1 - step.surviving), f"{step.surviving:.0%} scores {step.score:.3f}")

    ranking = rank({name: value.cpu().numpy() for name, value in dense.items()})
    steps = search_magnitude(
        look,
        ranking,
        chosen.threshold,
        chosen.magnitude_step,
        chosen.magnitude_of,
        chosen.magnitude_max_steps,
        on_step,
    )
    return [asdict(step) for step in steps], ranking.smallest_pruned(last_kept(steps).pruned)


def _iterative(
    experiment: Experiment, seed: int, like: Subnetwork, report: Progress
) -> WeightSubnetwork:
    """Prune in equal ratios to the size of `like`, going back to the pre-trained weights and
    training what is left before every further pruning (Chen et al., 2020).
    """
    assert isinstance(like, WeightSubnetwork)
    model, kept, rounds = experiment.finetuned(seed), like, experiment.settings.rounds
    for number in range(1, rounds + 1):
        remaining = round(like.capacity * (like.size / like.capacity) ** (number / rounds))
        kept = ranking_of(model).smallest_pruned(like.capacity - remaining)
        if number == rounds:
            break

        def on_step(share: float, found: str, number: int = number) -> None:
            report((number - 1 + share) / (rounds - 1), f"round {number} of {rounds}, {found}")

        model = experiment.pretrained(seed)
        train(model, experiment.splits[0], experiment.task, experiment.recipe, seed, kept, on_step)
    return kept


def _largest(model: PreTrainedModel, like: Subnetwork) -> WeightSubnetwork:
    assert isinstance(like, WeightSubnetwork)
    return ranking_of(model).smallest_pruned(like.capacity - like.size)


def ranking_of(model: PreTrainedModel) -> Ranking:
    """The model's prunable weights, ranked by magnitude; they must stay what they are."""
    weights = prunable_weights(model)
    return rank({name: value.detach().cpu().numpy() for name, value in weights.items()})


def structured_row(step: StructuredStep, shape: Shape) -> dict[str, Any]:
    """A step of a structured search as plain values."""
    return {
        "phase": step.phase,
        "heads": step.subnetwork.heads.astype(int).tolist(),
        "mlps": step.subnetwork.mlps.astype(int).tolist(),
        "density": step.subnetwork.density(shape),
        "head_importance": step.importance.heads.tolist(),
        "mlp_importance": step.importance.mlps.tolist(),
        "score": step.score,
        "kept": step.kept,
    }
