"""The experiment: the stages of the paper in its order, each asking the run store first.

fine-tune -> search -> good, random, bad -> scores, pruned and retrained. Every stage names its
predecessors, so asking for a late one computes what it needs and nothing that is there already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from lotterylib.ablation import ablate_heads
from lotterylib.baselines import BASELINES, majority_score
from lotterylib.batches import Encoded, encode, load_encoded, save_encoded
from lotterylib.data.files import read_json, write_json
from lotterylib.data.glue import TaskData
from lotterylib.data.loading import checked, load_model, load_tokenizer
from lotterylib.data.pretrained import Encoder, find_encoder
from lotterylib.encoder import Shape, shape_of
from lotterylib.errors import unknown
from lotterylib.fast.cpu import keep_freed_memory
from lotterylib.fast.gpu import computed_on, find_device, name_of, set_precision
from lotterylib.finetuning import Progress, Recipe, silent, train
from lotterylib.gates import remove, zero_pruned_weights
from lotterylib.importance import Accumulation, Importance, measure
from lotterylib.runs.methods import ALL_KINDS, ALL_METHODS, ALL_PHASES, KINDS
from lotterylib.runs.request import load_task_data
from lotterylib.runs.searches import configuration, find_good, ranking_of
from lotterylib.runs.settings import Settings
from lotterylib.runs.store import (
    Key,
    RunStore,
    load_subnetwork,
    read_score,
    save_subnetwork,
    write_score,
)
from lotterylib.scoring import Score, evaluate
from lotterylib.subnetworks import (
    StructuredSubnetwork,
    Subnetwork,
    WeightSubnetwork,
    bad_like,
    full_subnetwork,
    random_like,
)
from lotterylib.super_survivors import bad_super, random_super

RESULTS_VERSION = 2
"""Raised whenever a change to the library changes what a stage computes, so that older artefacts
are not taken for its results."""


class Experiment:
    """One encoder on one task under one preset: its stages, for any of its seeds."""

    def __init__(self, settings: Settings, encoder: Encoder, data: TaskData) -> None:
        keep_freed_memory()
        self.settings, self.encoder, self.data = settings, encoder, data
        self.task = settings.task
        self.store = RunStore(settings.store)
        self.device = find_device(settings.device)
        self.recipe = Recipe(
            learning_rate=settings.learning_rate or encoder.learning_rate_on(settings.task.name),
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            order=settings.batch_order,
            clip=settings.clip,
            warmup=settings.warmup,
            weight_decay=settings.weight_decay,
        )

    @property
    def computed_on(self) -> str:
        """The device, with the type of products where that is not float32, for the provenance."""
        return computed_on(self.device, self.settings.precision)

    def key(self, stage: str, config: Mapping[str, Any], seed: int) -> Key:
        """Where the store keeps a stage of this encoder on this task."""
        return Key(self.encoder.name, self.task.name, stage, config, seed)

    def key_after(self, stage: str, seed: int, **config: Any) -> Key:
        """Where the store keeps a stage that starts from the fine-tuned model."""
        return self.key(stage, {"finetuned": self.finetuned_key(seed).digest, **config}, seed)

    def fetch_json(self, key: Key, name: str, make: Callable[[], object], device: str = "") -> Any:
        """The plain values that `make` returns, which the store keeps as a file of this name."""

        def write(folder: Path) -> None:
            write_json(folder / name, make())

        return read_json(self.store.fetch(key, write, device or self.computed_on) / name)

    @cached_property
    def splits(self) -> tuple[Encoded, Encoded]:
        """The training and dev examples as tokens."""
        tokenizer, files = load_tokenizer(self.encoder), ("train.safetensors", "dev.safetensors")

        def make(folder: Path) -> None:
            for name, part in zip(files, (self.data.train, self.data.dev), strict=True):
                tokens = encode(part, self.task, tokenizer, self.settings.max_length)
                save_encoded(tokens, folder / name)

        folder = self.store.fetch(self.key("word-pieces", self._texts, seed=0), make)
        train_split, dev_split = (load_encoded(folder / name, tokenizer) for name in files)
        return train_split, dev_split

    @property
    def _texts(self) -> dict[str, Any]:
        """What the tokens depend on."""
        return {
            "data": self.data.fingerprint,
            "tokenizer": self.encoder.tokenizer_sha256,
            "max_length": self.settings.max_length,
        }

    @cached_property
    def shape(self) -> Shape:
        """The sizes of the encoder under its task layer."""
        return shape_of(load_model(self.encoder, self.task, seed=0))

    # Fine-tuning (section 3.1)

    def finetuned_key(self, seed: int) -> Key:
        """Where the store keeps the full model."""
        recipe = asdict(self.recipe)
        if self.recipe.order == "random":
            recipe["unpadded"] = True  # once they were padded, and dropout drew other masks
        config = {"version": RESULTS_VERSION, "weights": self.encoder.sha256, "recipe": recipe}
        config |= self._texts
        if self.settings.precision != "auto":
            config["precision"] = self.settings.precision
        return self.key("finetune", config, seed)

    def _finetuned(self, seed: int, report: Progress = silent) -> Path:
        def make(folder: Path) -> None:
            model, split = self.pretrained(seed), self.splits[0]
            losses = train(model, split, self.task, self.recipe, seed, progress=report)
            write_json(folder / "losses.json", losses)
            write_score(folder, evaluate(model, self.splits[1], self.task))
            state = {name: value.contiguous() for name, value in model.state_dict().items()}
            save_file(state, folder / "model.safetensors")

        return self.store.fetch(self.finetuned_key(seed), make, self.computed_on)

    def pretrained(self, seed: int, pretrained: bool = True) -> PreTrainedModel:
        """The pre-trained encoder, or one of random weights, under the seed's fresh task layer."""
        model = load_model(self.encoder, self.task, seed, pretrained)
        return set_precision(model.to(self.device), self.settings.precision)  # type: ignore[arg-type]

    def finetuned(self, seed: int) -> PreTrainedModel:
        """The fine-tuned model: the paper's full model."""
        folder = self._finetuned(seed)
        model = self.pretrained(seed)
        model.load_state_dict(load_file(folder / "model.safetensors"))
        return model.eval()

    def losses(self, seed: int) -> list[float]:
        """The training loss of every step of fine-tuning."""
        return read_json(self._finetuned(seed) / "losses.json")

    def full_score(self, seed: int, report: Progress = silent) -> Score:
        """The full model's score on the dev set."""
        return read_score(self._finetuned(seed, report))

    # What a score is worth (section 4.3)

    def majority(self) -> Score:
        """The score of the commonest training label (regression: the mean label)."""
        train_labels, dev_labels = (np.array(s["label"]) for s in (self.data.train, self.data.dev))
        return majority_score(train_labels, dev_labels, self.task)

    def baseline_key(self, name: str) -> Key:
        """Where the store keeps a baseline."""
        config = {"version": RESULTS_VERSION, "weights": self.encoder.sha256}
        config |= {"data": self.data.fingerprint, "max_length": self.settings.max_length}
        return self.key(name, config | {"chosen_by": self.task.metric}, seed=0)

    def baseline(self, name: str, report: Progress = silent) -> Score:
        """The score of one of `baselines.BASELINES`, which do not fine-tune the encoder."""

        def make(folder: Path) -> None:
            score = BASELINES[name](self.pretrained(seed=0), *self.splits, self.task, report)
            write_score(folder, score)

        return read_score(self.store.fetch(self.baseline_key(name), make, name_of(self.device)))

    # The searches (sections 3.2 and 3.3)

    @property
    def stop_metric(self) -> str:
        """The metric that decides the searches."""
        if self.settings.stop_metric == "official":
            return self.task.official_stop_metric
        return self.task.metric

    def search_key(self, seed: int, method: str, number: int = 0) -> Key:
        """Where the store keeps what a method found; `number` as in `subnetwork`."""
        config = configuration(self, seed, ALL_METHODS[method], number)
        return self.key(f"search-{method}", config, seed)

    def _searched(self, seed: int, method: str, report: Progress = silent, number: int = 0) -> Path:
        def make(folder: Path) -> None:
            trace, good = find_good(self, seed, method, report, number)
            write_json(folder / "trace.json", trace)
            save_subnetwork(good, folder / "good.safetensors")

        return self.store.fetch(self.search_key(seed, method, number), make, self.computed_on)

    def trace(self, seed: int, method: str) -> list[dict[str, Any]]:
        """Every state that a search tried, as plain values."""
        return read_json(self._searched(seed, method) / "trace.json")

    # Importance of heads and MLPs in the full model (section 3.3)

    def importance_key(self, seed: int, accumulation: str) -> Key:
        """Where the store keeps the full model's importance scores."""
        return self.key_after(f"importance-{accumulation}", seed, accumulation=accumulation)

    def importance(self, seed: int, accumulation: Accumulation) -> Importance:
        """The importance scores of the full model on the dev set, before normalisation."""

        def make() -> object:
            full = full_subnetwork(self.shape)
            scores, _ = measure(self.finetuned(seed), self.splits[1], self.task, full, accumulation)
            return {"heads": scores.heads.tolist(), "mlps": scores.mlps.tolist()}

        key = self.importance_key(seed, accumulation)
        arrays = self.fetch_json(key, "importance.json", make)
        return Importance(np.array(arrays["heads"]), np.array(arrays["mlps"]))

    # Ablation of single heads (Michel et al., 2019)

    def ablation_key(self, seed: int) -> Key:
        """Where the store keeps the scores without each head."""
        return self.key_after("ablation", seed)

    def ablation(self, seed: int, report: Progress = silent) -> np.ndarray:
        """The full model's reported dev score without each head, float64[layers, heads]."""

        def make() -> object:
            return ablate_heads(self.finetuned(seed), self.splits[1], self.task, report).tolist()

        return np.array(self.fetch_json(self.ablation_key(seed), "scores.json", make))

    # Good, random and bad subnetworks (section 4.2)

    def _subnetwork_key(self, seed: int, method: str, kind: str, number: int = 0) -> Key:
        option = "exact"
        if kind == "random" and ALL_METHODS[method].is_structured:
            option = self.settings.random_structured
        elif kind == "bad" and not ALL_METHODS[method].is_structured:
            option = self.settings.bad_magnitude
        drawn = kind in ("random", "bad")
        search = self.search_key(seed, method, 0 if drawn else number)
        config: dict[str, Any] = {"search": search.digest, "kind": kind, "option": option}
        if drawn and number:
            config["draw"] = number
        return self.key(f"{kind}-{method}", config, seed)

    def subnetwork(
        self, seed: int, method: str, kind: str, report: Progress = silent, number: int = 0
    ) -> Subnetwork:
        """The good subnetwork of a method, a random or bad one of its size, or what it pruned.

        Args:
            seed: of fine-tuning.
            method: a name in `methods.ALL_METHODS`.
            kind: "good", "random", "bad" or "inverted".
            report: told of the progress of the search.
            number: of the draw, for random and bad ones; of the random half of dev, for good ones
                that are searched on one.

        Raises:
            LotteryError: another method or kind; or "inverted" of super-survivors, which no search
                pruned.
        """
        if method not in ALL_METHODS:
            raise unknown("method", method, ALL_METHODS)
        kinds = KINDS if ALL_METHODS[method].way == "agreement" else ALL_KINDS
        if kind not in kinds:
            raise unknown(f"kind of subnetwork for {method}", kind, kinds)
        half = 0 if kind in ("random", "bad") else number
        good = load_subnetwork(self._searched(seed, method, report, half) / "good.safetensors")
        if kind == "good":
            return good

        def make(folder: Path) -> None:
            made = self._other(good, seed, method, kind, number)
            save_subnetwork(made, folder / f"{kind}.safetensors")

        key = self._subnetwork_key(seed, method, kind, number)
        return load_subnetwork(self.store.fetch(key, make) / f"{kind}.safetensors")

    def _other(
        self, good: Subnetwork, seed: int, method: str, kind: str, number: int
    ) -> Subnetwork:
        if ALL_METHODS[method].way == "agreement":
            all_good = [self.subnetwork(s, "structured", "good") for s in self.settings.seeds]
            return (random_super if kind == "random" else bad_super)(all_good, seed)  # type: ignore[arg-type]
        if kind == "random":
            return random_like(good, seed, self.settings.random_structured, number)
        if kind == "inverted":
            return good.complement(ALL_METHODS[method].prunes)
        if isinstance(good, WeightSubnetwork) and self.settings.bad_magnitude == "lowest":
            return ranking_of(self.finetuned(seed)).smallest_pruned(good.size).complement()
        return bad_like(good, seed, number)

    # Scores, pruned and retrained (section 4.2)

    def choices(self, phase: str, structured: bool = True) -> dict[str, str]:
        """How subnetworks are scored, as far as that is not as the text says; for their keys."""
        found = {}
        if structured and self.settings.empty_layer_bias == "dropped":
            found["empty_layer_bias"] = "dropped"
        if phase in ("retrained", "longer") and self.settings.embeddings == "kept":
            found["embeddings"] = "kept"
        return found

    def score_key(self, seed: int, method: str, kind: str, phase: str, number: int = 0) -> Key:
        """Where the store keeps the score of a subnetwork."""
        config: dict[str, Any] = {
            "subnetwork": self._subnetwork_key(seed, method, kind, number).digest,
            "phase": phase,
            **self.choices(phase, ALL_METHODS[method].is_structured),
        }
        if phase == "rewound":
            config["after"] = self.settings.rewind_share
        return self.key(f"{phase.replace(' ', '-')}-{method}-{kind}", config, seed)

    def score(
        self,
        seed: int,
        method: str,
        kind: str,
        phase: str,
        report: Progress = silent,
        number: int = 0,
    ) -> Score:
        """The dev score of a subnetwork; arguments as for `subnetwork`, `phase` as for `left`."""

        def make(folder: Path) -> None:
            subnetwork = self.subnetwork(seed, method, kind, number=number)
            model, losses = self.left(seed, subnetwork, phase, report)
            if phase != "pruned":
                write_json(folder / "losses.json", losses)
            write_score(folder, evaluate(model, self.splits[1], self.task))

        key = self.score_key(seed, method, kind, phase, number)
        return read_score(self.store.fetch(key, make, self.computed_on))

    def left(
        self, seed: int, subnetwork: Subnetwork, phase: str, report: Progress = silent
    ) -> tuple[PreTrainedModel, list[float]]:
        """The model of which only a subnetwork is left, and the losses of its training.

        Args:
            phase: "pruned", the fine-tuned weights that survive; "retrained", the pre-trained ones
                trained anew under the task layer of the same seed; "longer", likewise for twice the
                epochs; "rewound", likewise from the weights after `rewind_share` of fine-tuning;
                or "from scratch", trained from random weights.
            seed, subnetwork, report: of fine-tuning; what is left; told of the progress.

        Raises:
            LotteryError: another phase.
        """
        if phase not in ALL_PHASES:
            raise unknown("phase", phase, ALL_PHASES)
        split, task, recipe, start = self.splits[0], self.task, self.recipe, 0.0
        if phase == "pruned":
            model = self.finetuned(seed)
        else:
            model = self.pretrained(seed, pretrained=phase != "from scratch")
        if "embeddings" in self.choices(phase):
            tuned = self.finetuned(seed).base_model.embeddings  # type: ignore[union-attr]
            model.base_model.embeddings.load_state_dict(tuned.state_dict())  # type: ignore[union-attr]
        if phase == "longer":
            recipe = replace(recipe, epochs=2 * recipe.epochs)
        if phase == "rewound":
            start = self.settings.rewind_share
            train(model, split, task, recipe, seed, part=(0.0, start))
        weights = subnetwork if isinstance(subnetwork, WeightSubnetwork) else None
        if isinstance(subnetwork, StructuredSubnetwork):
            remove(model, subnetwork, self.settings.empty_layer_bias == "dropped")
        else:
            zero_pruned_weights(model, subnetwork)
        if phase == "pruned":
            return model, []
        return model, train(model, split, task, recipe, seed, weights, report, (start, 1.0))


def open_experiment(settings: Settings) -> Experiment:
    """The experiment that the settings describe.

    Raises:
        LotteryError: the encoder or the data cannot be had, or are not what they should be.
    """
    encoder = checked(find_encoder(settings.encoder), settings.max_length)
    return Experiment(settings, encoder, load_task_data(settings))
