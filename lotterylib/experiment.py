"""The experiment: the stages of the paper in its order, each asking the run store first.

fine-tune -> search (structured, magnitude) -> good, random, bad -> pruned and retrained scores.
Every stage names its predecessors, so asking for a late one computes what it needs and nothing that
is there already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from lotterylib.anatomy import prunable_weights, shape_of
from lotterylib.baselines import frozen_score, majority_score
from lotterylib.batches import MAX_LENGTH, Encoded, encode
from lotterylib.data import TaskData, load_task_data
from lotterylib.encoders import Encoder, find_encoder
from lotterylib.gates import remove, zero_pruned_weights
from lotterylib.importance import Importance, measure
from lotterylib.loading import load_model, load_tokenizer
from lotterylib.magnitude import MagnitudeStep, Ranking, last_kept, rank, search_magnitude
from lotterylib.scoring import Score, evaluate
from lotterylib.settings import Settings
from lotterylib.shape import Shape
from lotterylib.store import Key, RunStore, read_json, write_json
from lotterylib.structured import StructuredStep, good_subnetwork, search_structured
from lotterylib.subnetworks import (
    KINDS,
    METHODS,
    StructuredSubnetwork,
    Subnetwork,
    WeightSubnetwork,
    bad_like,
    full_subnetwork,
    load_subnetwork,
    random_like,
    save_subnetwork,
)
from lotterylib.training import Recipe, train

RESULTS_VERSION = 1
"""Raised whenever a change to the library changes what a stage computes, so that older artefacts
are not taken for its results."""

Report = Callable[[float, str], None]
"""Told, while a cell is computed, the share that is done and what was found so far."""


def _silent(share: float, found: str) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class Cell:
    """One piece of work of the grid: a stage for a seed, and for a subnetwork where it has one.

    Attributes:
        stage: "frozen" (a baseline), "finetune", "search", "pruned" or "retrained".
        seed: of fine-tuning; 0 for the baseline, which has none.
        method: "structured" or "magnitude"; empty for fine-tuning.
        kind: "good", "random" or "bad"; empty for fine-tuning and searches.
        effort: about how long it takes, in units of one fine-tuning.
    """

    stage: str
    seed: int
    method: str = ""
    kind: str = ""
    effort: float = 1.0

    @property
    def label(self) -> str:
        """The cell in a few words."""
        return " ".join(part for part in (self.stage, self.method, self.kind) if part)


class Experiment:
    """One encoder on one task under one preset: its stages, for any of its seeds.

    Args:
        settings: what `settings.parse_settings` returned.
        encoder: the encoder that the settings name.
        data: the examples that the settings name.
    """

    def __init__(self, settings: Settings, encoder: Encoder, data: TaskData) -> None:
        self.settings, self.encoder, self.data = settings, encoder, data
        self.task, self.preset = settings.task, settings.preset
        self.store = RunStore(settings.store)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.recipe = Recipe(
            learning_rate=settings.learning_rate or self.encoder.learning_rate,
            epochs=settings.epochs,
            order=settings.batch_order,  # type: ignore[arg-type]
        )

    @cached_property
    def splits(self) -> tuple[Encoded, Encoded]:
        """The training and dev examples as word pieces."""
        tokenizer = load_tokenizer(self.encoder)
        return (
            encode(self.data.train, self.task, tokenizer),
            encode(self.data.dev, self.task, tokenizer),
        )

    @cached_property
    def shape(self) -> Shape:
        """The sizes of the encoder under its task layer."""
        return shape_of(load_model(self.encoder, self.task, seed=0))

    def cells(self) -> Iterator[Cell]:
        """All work of this experiment, in the order in which it is done."""
        yield Cell("frozen", seed=0, effort=0.1)
        for seed in self.settings.seeds:
            yield Cell("finetune", seed)
            for method in METHODS:
                yield Cell("search", seed, method, effort=0.25)
                for kind in KINDS:
                    yield Cell("pruned", seed, method, kind, effort=0.02)
                    effort = 0.5 if method == "structured" else 1.0
                    yield Cell("retrained", seed, method, kind, effort=effort)

    def compute(self, cell: Cell, report: Report = _silent) -> str:
        """Compute a cell unless it is in the store, and say what was found in a few words."""
        if cell.stage == "search":
            subnetwork = self.subnetwork(cell.seed, cell.method, "good", report)
            return f"keeps {subnetwork.density(self.shape):.0%} of the encoder"
        if cell.stage == "frozen":
            score = self.frozen()
        elif cell.stage == "finetune":
            score = self.full_score(cell.seed, report)
        else:
            score = self.score(cell.seed, cell.method, cell.kind, cell.stage, report)
        constant = ", a constant predictor" if score.constant else ""
        return f"{self.task.metric} {score.metrics[self.task.metric]:.3f}{constant}"

    def is_done(self, cell: Cell) -> bool:
        """Whether the store has what the cell computes."""
        return self.store.has(self.key(cell))

    def key(self, cell: Cell) -> Key:
        """Where the store keeps what the cell computes."""
        if cell.stage == "frozen":
            return self._frozen_key()
        if cell.stage == "finetune":
            return self._finetuned_key(cell.seed)
        if cell.stage == "search":
            return self._search_key(cell.seed, cell.method)
        return self._score_key(cell.seed, cell.method, cell.kind, cell.stage)

    def provenance(self, cell: Cell) -> dict[str, Any]:
        """Versions, device and seconds of a cell that is done."""
        return self.store.provenance(self.key(cell))

    # Fine-tuning (section 3.1)

    def _finetuned_key(self, seed: int) -> Key:
        config = {
            "version": RESULTS_VERSION,
            "weights": self.encoder.sha256,
            "data": self.data.fingerprint,
            "max_length": MAX_LENGTH,
            "recipe": asdict(self.recipe),
        }
        return Key(self.encoder.name, self.task.name, "finetune", config, seed)

    def _finetuned(self, seed: int, report: Report = _silent) -> Path:
        def make(folder: Path) -> None:
            train_split, dev_split = self.splits
            model = self.pretrained(seed)
            losses = train(model, train_split, self.task, self.recipe, seed, progress=report)
            write_json(folder / "losses.json", losses)
            _write_score(folder, evaluate(model, dev_split, self.task))
            state = {name: value.contiguous() for name, value in model.state_dict().items()}
            save_file(state, folder / "model.safetensors")

        return self.store.fetch(self._finetuned_key(seed), make, self._device_name)

    def pretrained(self, seed: int) -> PreTrainedModel:
        """The pre-trained encoder under the seed's fresh task layer."""
        return load_model(self.encoder, self.task, seed).to(self.device)  # type: ignore[arg-type]

    def finetuned(self, seed: int) -> PreTrainedModel:
        """The fine-tuned model: the paper's full model."""
        folder = self._finetuned(seed)
        model = self.pretrained(seed)
        model.load_state_dict(load_file(folder / "model.safetensors"))
        return model.eval()

    def losses(self, seed: int) -> list[float]:
        """The training loss of every step of fine-tuning."""
        return read_json(self._finetuned(seed) / "losses.json")

    def full_score(self, seed: int, report: Report = _silent) -> Score:
        """The full model's score on the dev set."""
        return _read_score(self._finetuned(seed, report))

    def majority(self) -> Score:
        """The score of the commonest training label (regression: the mean label)."""
        train_labels, dev_labels = (np.array(s["label"]) for s in (self.data.train, self.data.dev))
        return majority_score(train_labels, dev_labels, self.task)

    def _frozen_key(self) -> Key:
        config = {"version": RESULTS_VERSION, "data": self.data.fingerprint}
        config |= {"weights": self.encoder.sha256, "max_length": MAX_LENGTH}
        config["chosen_by"] = self.task.metric
        return Key(self.encoder.name, self.task.name, "frozen", config, seed=0)

    def frozen(self) -> Score:
        """The score of a linear layer on the frozen pre-trained encoder."""

        def make(folder: Path) -> None:
            score = frozen_score(self.pretrained(seed=0), *self.splits, self.task)
            _write_score(folder, score)

        return _read_score(self.store.fetch(self._frozen_key(), make, self._device_name))

    # The searches (sections 3.2 and 3.3)

    @property
    def stop_metric(self) -> str:
        """The metric that decides the searches."""
        official = self.preset.stop_metric == "official"
        return self.task.official_stop_metric if official else self.task.metric

    def _search_key(self, seed: int, method: str) -> Key:
        names = {
            "structured": ("threshold", "heads_step", "importance", "stale_importance"),
            "magnitude": ("threshold", "magnitude_step", "magnitude_max_steps"),
        }[method]
        config = {
            "finetuned": self._finetuned_key(seed).digest,
            "stop_metric": self.stop_metric,
            **{name: getattr(self.preset, name) for name in names},
        }
        return Key(self.encoder.name, self.task.name, f"search-{method}", config, seed)

    def _searched(self, seed: int, method: str, report: Report = _silent) -> Path:
        def make(folder: Path) -> None:
            search = self._search_structured if method == "structured" else self._search_magnitude
            trace, good = search(self.finetuned(seed), report)
            write_json(folder / "trace.json", trace)
            save_subnetwork(good, folder / "good.safetensors")

        return self.store.fetch(self._search_key(seed, method), make, self._device_name)

    def _search_structured(
        self, model: PreTrainedModel, report: Report
    ) -> tuple[list[dict[str, Any]], Subnetwork]:
        dev = self.splits[1]

        def look(subnetwork: StructuredSubnetwork) -> tuple[Importance, float]:
            importance, score = measure(model, dev, self.task, subnetwork, self.preset.importance)
            return importance, score.metrics[self.stop_metric]

        def on_step(step: StructuredStep) -> None:
            kept = step.subnetwork.density(self.shape)
            report(min(0.95, 1 - kept), f"{kept:.0%} left scores {step.score:.3f}")

        steps = search_structured(look, full_subnetwork(self.shape), self.preset, on_step)
        return [_structured_row(step, self.shape) for step in steps], good_subnetwork(steps)

    def _search_magnitude(
        self, model: PreTrainedModel, report: Report
    ) -> tuple[list[dict[str, Any]], Subnetwork]:
        dev = self.splits[1]
        dense = {name: value.detach().clone() for name, value in prunable_weights(model).items()}

        def look(subnetwork: WeightSubnetwork) -> float:
            with torch.no_grad():
                for name, parameter in prunable_weights(model).items():
                    parameter.copy_(dense[name])
            zero_pruned_weights(model, subnetwork)
            return evaluate(model, dev, self.task).metrics[self.stop_metric]

        def on_step(step: MagnitudeStep) -> None:
            report(min(0.95, 1 - step.surviving), f"{step.surviving:.0%} scores {step.score:.3f}")

        ranking = self._ranking(dense)
        steps = search_magnitude(look, ranking, self.preset, on_step)
        return [asdict(step) for step in steps], ranking.smallest_pruned(last_kept(steps).pruned)

    @staticmethod
    def _ranking(weights: dict[str, torch.Tensor]) -> Ranking:
        return rank({name: value.detach().cpu().numpy() for name, value in weights.items()})

    def trace(self, seed: int, method: str) -> list[dict[str, Any]]:
        """Every state that a search tried, as plain values."""
        return read_json(self._searched(seed, method) / "trace.json")

    # Good, random and bad subnetworks (section 4.2)

    def _subnetwork_key(self, seed: int, method: str, kind: str) -> Key:
        option = {
            ("structured", "random"): self.preset.random_structured,
            ("magnitude", "bad"): self.preset.bad_magnitude,
        }.get((method, kind), "exact")
        config = {"search": self._search_key(seed, method).digest, "kind": kind, "option": option}
        return Key(self.encoder.name, self.task.name, f"{kind}-{method}", config, seed)

    def subnetwork(self, seed: int, method: str, kind: str, report: Report = _silent) -> Subnetwork:
        """The good subnetwork of a search, or a random or bad one of its size."""
        good = load_subnetwork(self._searched(seed, method, report) / "good.safetensors")
        if kind == "good":
            return good

        def make(folder: Path) -> None:
            if kind == "random":
                other = random_like(good, seed, self.preset.random_structured)
            elif isinstance(good, WeightSubnetwork) and self.preset.bad_magnitude == "lowest":
                ranking = self._ranking(dict(prunable_weights(self.finetuned(seed))))
                other = ranking.largest_pruned(good.capacity - good.size)
            else:
                other = bad_like(good, seed)
            save_subnetwork(other, folder / f"{kind}.safetensors")

        key = self._subnetwork_key(seed, method, kind)
        return load_subnetwork(self.store.fetch(key, make) / f"{kind}.safetensors")

    # Scores, pruned and retrained (section 4.2)

    def _score_key(self, seed: int, method: str, kind: str, phase: str) -> Key:
        config = {"subnetwork": self._subnetwork_key(seed, method, kind).digest, "phase": phase}
        stage = f"{phase}-{method}-{kind}"
        return Key(self.encoder.name, self.task.name, stage, config, seed)

    def score(
        self, seed: int, method: str, kind: str, phase: str, report: Report = _silent
    ) -> Score:
        """The dev score of a subnetwork.

        Args:
            seed: of fine-tuning.
            method: "structured" or "magnitude".
            kind: "good", "random" or "bad".
            report: told of the progress of retraining.
            phase: "pruned", the fine-tuned weights that survive, or "retrained", the pre-trained
                ones trained anew under the task layer of the same seed.
        """

        def make(folder: Path) -> None:
            subnetwork = self.subnetwork(seed, method, kind)
            train_split, dev_split = self.splits
            model = self.finetuned(seed) if phase == "pruned" else self.pretrained(seed)
            weights = subnetwork if isinstance(subnetwork, WeightSubnetwork) else None
            if isinstance(subnetwork, StructuredSubnetwork):
                remove(model, subnetwork)
            else:
                zero_pruned_weights(model, subnetwork)
            if phase == "retrained":
                losses = train(
                    model, train_split, self.task, self.recipe, seed, weights, progress=report
                )
                write_json(folder / "losses.json", losses)
            _write_score(folder, evaluate(model, dev_split, self.task))

        key = self._score_key(seed, method, kind, phase)
        return _read_score(self.store.fetch(key, make, self._device_name))

    @property
    def _device_name(self) -> str:
        return torch.cuda.get_device_name() if self.device.type == "cuda" else "CPU"


def open_experiment(settings: Settings) -> Experiment:
    """The experiment that the settings describe.

    Raises:
        LotteryError: the encoder or the data cannot be had, or are not what they should be.
    """
    return Experiment(settings, find_encoder(settings.encoder), load_task_data(settings))


def _structured_row(step: StructuredStep, shape: Shape) -> dict[str, Any]:
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


def _write_score(folder: Path, score: Score) -> None:
    write_json(folder / "score.json", asdict(score))


def _read_score(folder: Path) -> Score:
    values = read_json(folder / "score.json")
    return Score(values["metrics"], values["constant"], tuple(values["predictions"]))
