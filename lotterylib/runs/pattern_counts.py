"""Which attention patterns the heads of a task's models show (section 5.2, appendix F).

For each seed, the maps of every head on a hundred dev examples are classified. What the full model,
the super-survivors or any other set of heads show is then a sum over heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from transformers import PreTrainedModel

from lotterylib.attention import Slices, maps_of
from lotterylib.fast.gpu import name_of
from lotterylib.finetuning import Progress, silent
from lotterylib.gates import gate_values, gated
from lotterylib.heterogeneity import heterogeneous_share, pattern_shares
from lotterylib.pattern_cnn import (
    EPOCHS,
    GENERATED_MAPS,
    PatternCNN,
    classify_by_cnn,
    load_cnn,
    save_cnn,
    train_cnn,
)
from lotterylib.patterns import PATTERNS, generate_maps
from lotterylib.runs.store import Key, RunStore
from lotterylib.subnetworks import StructuredSubnetwork

if TYPE_CHECKING:
    from lotterylib.runs.experiment import Experiment

EXAMPLES = 100
"""Dev examples per seed, as many as in the paper. The authors pass over those with fewer tokens
than the smallest map that their classifier was trained on (`head_classification.ipynb`, cells 8 and
14); here every dev example may be drawn."""

CONDITIONS = tuple(
    f"{weights}, {kind}" for weights in ("fine-tuned", "pre-trained") for kind in ("raw", "normed")
)
"""Whose attention is looked at, and whether it is weighted by the norms of what it moves."""

CNN_SEED = 13


def classifier(store: RunStore) -> PatternCNN:
    """The paper's CNN, trained on generated maps; trained once per store."""

    def make(folder: Path) -> None:
        maps, codes = generate_maps(GENERATED_MAPS, CNN_SEED)
        save_cnn(train_cnn(maps, codes, CNN_SEED), folder / "cnn.safetensors")

    return load_cnn(store.fetch(classifier_key(), make) / "cnn.safetensors")


def classifier_key() -> Key:
    """Where the store keeps the classifier."""
    config = {"maps": GENERATED_MAPS, "epochs": EPOCHS, "version": 1}
    return Key("patterns", "generated", "cnn", config, CNN_SEED)


def counts_key(experiment: Experiment, seed: int, condition: str, within: str = "") -> Key:
    """Where the store keeps the counts of `count_patterns`."""
    settings, tuned = experiment.settings, condition.startswith("fine-tuned")
    config = {
        "weights": experiment.finetuned_key(seed).digest if tuned else experiment.encoder.sha256,
        "data": experiment.data.fingerprint,
        "classifier": classifier_key().digest,
        "examples": EXAMPLES,
        "token_types": settings.attention_token_types,
    }
    if condition.endswith("normed"):
        config["slices"] = settings.attention_slices
    if within:
        config["within"] = experiment.search_key(seed, within).digest
    name = condition.replace(", ", "-") + (f"-in-{within}" if within else "")
    return experiment.key(f"patterns-{name}", config, seed)


def count_patterns(
    experiment: Experiment,
    seed: int,
    condition: str,
    report: Progress = silent,
    within: str = "",
) -> np.ndarray:
    """How many maps of each head show each pattern.

    Args:
        seed: of fine-tuning; it also draws the dev examples.
        condition: one of `CONDITIONS`.
        within: empty for the full model, or a method, such as "super", whose good subnetwork is
            gated in (closed heads still have maps; do not count them).

    Returns:
        int64[layers, heads, patterns], in the order of `patterns.PATTERNS`.
    """

    def make() -> object:
        tuned = condition.startswith("fine-tuned")
        model = experiment.finetuned(seed) if tuned else experiment.pretrained(seed)
        cnn, shape, rows = classifier(experiment.store), experiment.shape, len(experiment.splits[1])
        chosen = np.random.default_rng([seed, 3]).permutation(rows)[:EXAMPLES].tolist()
        counts = np.zeros((shape.layers, shape.heads, len(PATTERNS)), dtype=np.int64)
        with ExitStack() as stack:
            if within:
                network = experiment.subnetwork(seed, within, "good")
                stack.enter_context(gated(model, *gate_values(network, model.device)))  # type: ignore[arg-type]
            for start in range(0, len(chosen), 20):
                some = chosen[start : start + 20]
                for maps in _maps_of(experiment, model, some, condition):
                    codes = _classify(cnn, maps)
                    counts += np.eye(len(PATTERNS), dtype=np.int64)[codes].reshape(counts.shape)
                report((start + len(some)) / len(chosen), condition)
        return counts.tolist()

    key = counts_key(experiment, seed, condition, within)
    counts = experiment.fetch_json(key, "counts.json", make, name_of(experiment.device))
    return np.array(counts, dtype=np.int64)


def _maps_of(
    experiment: Experiment, model: PreTrainedModel, rows: Sequence[int], condition: str
) -> list[np.ndarray]:
    """The maps of dev examples, as the settings have them measured."""
    settings, dev = experiment.settings, experiment.splits[1]
    how = settings.attention_slices, settings.attention_token_types
    return maps_of(model, dev, rows, condition.endswith("normed"), *how)


def _classify(cnn: PatternCNN, maps: np.ndarray) -> np.ndarray:
    """The pattern of every head's map of an example."""
    return classify_by_cnn(cnn, list(maps.reshape(-1, *maps.shape[2:])))


def shares_table(experiment: Experiment) -> pd.DataFrame:
    """The paper's Figure 4 for one task: shares of the patterns, averaged over seeds; a row per
    condition and set of heads ("all", and "super" if there are any), a column per pattern.

    With `attention_in_subnetwork`, super-survivors are measured in the model pruned down to them.
    """
    seeds, rows = experiment.settings.seeds, []
    for condition in CONDITIONS:
        for heads in ("all", "super") if len(seeds) > 1 else ("all",):
            gate = heads == "super" and experiment.settings.attention_in_subnetwork
            shares = []
            for seed in seeds:
                counts = count_patterns(experiment, seed, condition, within="super" if gate else "")
                kept = None
                if heads == "super":
                    kept = experiment.subnetwork(seed, "super", "good").heads  # type: ignore[union-attr]
                shares.append(pattern_shares(counts, kept))
            weights, kind = condition.split(", ")
            mean = pd.DataFrame(shares).mean()
            if mean.notna().all():
                rows.append({"weights": weights, "maps": kind, "heads": heads, **mean})
    return pd.DataFrame(rows)


def survival_and_shares(experiment: Experiment, condition: str) -> tuple[np.ndarray, np.ndarray]:
    """The share of seeds whose good structured subnetwork keeps a head, and the share of its maps
    that are heterogeneous; float64[layers, heads] each.
    """
    seeds = experiment.settings.seeds
    kept = [experiment.subnetwork(seed, "structured", "good").heads for seed in seeds]  # type: ignore[union-attr]
    counts = np.sum([count_patterns(experiment, seed, condition) for seed in seeds], axis=0)
    return np.mean(kept, axis=0), heterogeneous_share(counts)


def detail_effects(experiment: Experiment, seed: int, examples: int = 20) -> pd.DataFrame:
    """What three details of the authors' code change in the norm-weighted maps of a fine-tuned
    model, on the first dev examples: rows of W_O in place of a head's columns, no token types, and
    super-survivors measured in the model pruned down to them.

    Returns:
        One row per detail: the share of maps whose pattern it changes, and the share of
        heterogeneous maps without and with it; for the last, of super-survivors' maps only.
    """
    model, cnn = experiment.finetuned(seed), classifier(experiment.store)
    rows = range(min(examples, len(experiment.splits[1])))

    def look(slices: Slices = "columns", token_types: bool = True) -> np.ndarray:
        found = maps_of(model, experiment.splits[1], rows, True, slices, token_types)
        codes = [_classify(cnn, maps) for maps in found]
        return np.stack(codes).reshape(len(codes), *found[0].shape[:2])

    plain = look()
    compared = {
        "rows of W_O": (plain, look(slices="rows")),
        "no token types": (plain, look(token_types=False)),
    }
    if len(experiment.settings.seeds) > 1:
        network = experiment.subnetwork(seed, "super", "good")
        assert isinstance(network, StructuredSubnetwork)
        with gated(model, *gate_values(network, model.device)):
            inside = look()
        if network.heads.any():
            name = "within the super-survivors"
            compared[name] = plain[:, network.heads], inside[:, network.heads]
    other = PATTERNS.index("heterogeneous")
    return pd.DataFrame(
        {
            name: {
                "pattern changes": f"{(one != two).mean():.0%}",
                "heterogeneous without": f"{(one == other).mean():.0%}",
                "heterogeneous with": f"{(two == other).mean():.0%}",
            }
            for name, (one, two) in compared.items()
        }
    ).T


def example_maps(experiment: Experiment, seed: int) -> dict[str, list[np.ndarray]]:
    """The maps ("raw" and "normed", float32[n, n] each) of six heads spread over the layers, of
    one dev example of middling length in the fine-tuned model of a seed.
    """
    dev = experiment.splits[1]
    row = int(np.argsort(dev.lengths, kind="stable")[(3 * len(dev)) // 4])
    model, shape = experiment.finetuned(seed), experiment.shape
    places = [(round(step * (shape.layers - 1) / 5), (5 * step) % shape.heads) for step in range(6)]
    found = {}
    for kind in ("raw", "normed"):
        (maps,) = _maps_of(experiment, model, [row], kind)
        found[kind] = [maps[layer, head] for layer, head in places]
    return found
