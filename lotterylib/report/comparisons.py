"""Comparisons: the tables of the pages on searches, stability, variants, extensions, patterns."""

from __future__ import annotations

import itertools
from typing import get_args

import numpy as np
import pandas as pd
from IPython.display import Markdown
from scipy import stats
from sklearn.metrics import accuracy_score, cohen_kappa_score, confusion_matrix, f1_score

from lotterylib.data.attention_maps import KINDS, LabelledMaps, load_labelled
from lotterylib.heterogeneity import correlation
from lotterylib.importance import Accumulation, Importance
from lotterylib.pattern_cnn import classify_by_cnn
from lotterylib.patterns import PATTERNS, classify_by_rules
from lotterylib.report import paper
from lotterylib.report.findings import spell_interval
from lotterylib.report.tables import NOTHING, readable, sizes_of
from lotterylib.runs.experiment import Experiment
from lotterylib.runs.methods import ALL_METHODS, METHODS
from lotterylib.runs.pattern_counts import classifier, survival_and_shares
from lotterylib.runs.searches import searched_rows
from lotterylib.runs.store import RunStore
from lotterylib.scoring import Score, score_predictions
from lotterylib.structured import heads_at_once
from lotterylib.subnetworks import StructuredSubnetwork


def or_sentence(table: pd.DataFrame) -> pd.DataFrame | Markdown:
    """A table of the paper's numbers, or, where it is empty, a sentence instead."""
    return readable(table) if len(table) else Markdown("The paper does not have this task.")


def good_structured(
    experiment: Experiment, method: str = "structured"
) -> dict[int, StructuredSubnetwork]:
    """The good subnetwork of every seed."""
    return {
        seed: experiment.subnetwork(seed, method, "good")  # type: ignore[misc]
        for seed in experiment.settings.seeds
    }


def accumulation_table(experiment: Experiment) -> pd.DataFrame:
    """How far the ways of accumulating importance agree in the full model, a row per seed and pair:
    Spearman's correlation of normalised importance, and how many of the heads that the first step
    prunes both would prune.
    """
    rows, count = [], first_step(experiment)
    pairs = itertools.combinations(get_args(Accumulation), 2)
    for seed, (one, other) in itertools.product(experiment.settings.seeds, pairs):
        a, b = (experiment.importance(seed, way).normalised() for way in (one, other))
        lowest = [set(np.argsort(x.heads.ravel(), kind="stable")[:count]) for x in (a, b)]
        row = {"seed": seed, "one": one, "other": other} | _rank_correlations(a, b)
        rows.append(row | {"pruned first by both": f"{len(lowest[0] & lowest[1])} of {count}"})
    return pd.DataFrame(rows).round(3)


def importance_between_seeds(experiment: Experiment) -> pd.DataFrame:
    """How far the full models of two seeds agree on what matters, a row per pair of seeds:
    Spearman's correlation of the normalised importance of heads and of MLPs.
    """
    way, seeds = experiment.settings.importance, experiment.settings.seeds
    measured = {seed: experiment.importance(seed, way).normalised() for seed in seeds}
    rows = {
        f"{one}, {other}": _rank_correlations(measured[one], measured[other])
        for one, other in itertools.combinations(seeds, 2)
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("seeds").round(3)


def _rank_correlations(a: Importance, b: Importance) -> dict[str, float]:
    return {
        "heads, rank correlation": _spearman(a.heads, b.heads),
        "MLPs, rank correlation": _spearman(a.mlps, b.mlps),
    }


def first_step(experiment: Experiment) -> int:
    """How many heads the first step of the structured search prunes."""
    heads = experiment.shape.layers * experiment.shape.heads
    return heads_at_once(experiment.settings.heads_step, heads)


def _spearman(one: np.ndarray, other: np.ndarray) -> float:
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(stats.spearmanr(one.ravel(), other.ravel()).statistic)


def super_table(experiment: Experiment) -> pd.DataFrame:
    """Sizes of the good subnetworks, a row per seed, and of the super-survivors."""
    rows = {f"seed {seed}": good for seed, good in good_structured(experiment).items()}
    rows["super-survivors"] = good_structured(experiment, "super")[experiment.settings.seeds[0]]
    return pd.DataFrame({name: sizes_of(kept, experiment.shape) for name, kept in rows.items()}).T


def held_out_table(experiment: Experiment) -> pd.DataFrame:
    """What good subnetworks score on examples that their search saw and on others.

    The paper searches and reports on the same dev set. Here each search is also run on one half of
    it, and on as many training examples.

    Returns:
        One row per method, place of the search and seed: `method`, `searched on`, `seed`,
        `density`, and the score less the full model's on the same dev examples, `seen` and
        `unseen`; nan where there are none.
    """
    labels, task = np.array(experiment.data.dev["label"]), experiment.task

    def on(score: Score, part: np.ndarray) -> float:
        if not part.any():
            return float("nan")
        found = score_predictions(np.array(score.predictions)[part], labels[part], task)
        return found.metrics[task.metric]

    places = (("", "all of dev"), ("-half-dev", "half of dev"), ("-train", "training rows"))
    rows = []
    for base, (suffix, where) in itertools.product(METHODS, places):
        method = ALL_METHODS[base + suffix]
        seen = np.zeros(len(labels), dtype=bool)
        if method.searched_on != "train":
            seen[searched_rows(method, len(experiment.data.train), len(labels))] = True
        for seed in experiment.settings.seeds:
            pruned = experiment.score(seed, method.name, "good", "pruned")
            full = experiment.full_score(seed)
            good = experiment.subnetwork(seed, method.name, "good")
            row: dict[str, object] = {"method": base, "searched on": where, "seed": seed}
            row |= {"density": good.density(experiment.shape)}
            for name, part in (("seen", seen), ("unseen", ~seen)):
                row[name] = on(pruned, part) - on(full, part)
            rows.append(row)
    return pd.DataFrame(rows)


def variant_table(experiment: Experiment, results: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds, a row per method and kind of subnetwork in a results table: heads and MLPs
    left (structured only), the share of the encoder, and the reported metric by phase.
    """
    reported = results[results["reported"] & (results["method"] != "none")]
    rows = []
    for (method, kind), part in reported.groupby(["method", "subnetwork"], sort=False):
        row: dict[str, object] = {"method": ALL_METHODS[str(method)].title, "subnetwork": kind}
        if ALL_METHODS[str(method)].is_structured:
            seeds = experiment.settings.seeds
            found = [experiment.subnetwork(seed, str(method), str(kind)) for seed in seeds]
            for name in ("heads", "MLPs"):
                row[name] = f"{np.mean([getattr(k, name.lower()).sum() for k in found]):.1f}"
        row["of the encoder"] = f"{part['density'].mean():.0%}"
        for phase, cell in part.groupby("phase", sort=False):
            row[str(phase)] = f"{cell['value'].mean():.3f}"
        rows.append(row)
    return pd.DataFrame(rows).fillna(NOTHING)


def ablation_table(experiment: Experiment) -> pd.DataFrame:
    """How far importance tells what a head's removal costs (after Michel et al., 2019), a row per
    seed: Spearman's correlation of the two, and how many heads can go one at a time without loss.
    """
    rows = []
    for seed in experiment.settings.seeds:
        lost = score_lost(experiment, seed)
        importance = experiment.importance(seed, experiment.settings.importance).normalised()
        rows.append(
            {
                "seed": seed,
                "rank correlation": round(_spearman(importance.heads, lost), 3),
                "heads without loss": f"{(lost <= 0).sum()} of {lost.size}",
                "largest loss": round(float(lost.max()), 3),
            }
        )
    return pd.DataFrame(rows)


def score_lost(experiment: Experiment, seed: int) -> np.ndarray:
    """What the full model loses without each head, float64[layers, heads], in reported metric."""
    full = experiment.full_score(seed).metrics[experiment.task.metric]
    return full - experiment.ablation(seed)


def beside_paper(results: pd.DataFrame) -> pd.DataFrame:
    """Means with standard deviations over seeds, `ours` and the paper's, a row for everything that
    both have scored; empty for a task that the paper does not have.

    Scores of different encoders are not comparable; the order of a task's rows is.
    """
    names, theirs = ["method", "subnetwork", "phase"], paper.scores()
    ours = results[results["reported"]].groupby(names, sort=False)["value"].agg(["mean", "std"])
    theirs = theirs[theirs["task"] == results["task"].iloc[0]].set_index(names)
    both = ours.join(theirs[["mean", "sd"]], how="inner", rsuffix="_paper")
    if both.empty:
        return pd.DataFrame()

    def told(mean: float, sd: float) -> str:
        return f"{mean:.3f}" if np.isnan(sd) else f"{mean:.3f} ± {sd:.3f}"

    return both.assign(
        ours=list(map(told, both["mean"], both["std"])),
        paper=list(map(told, both["mean_paper"], both["sd"])),
    )[["ours", "paper"]].reset_index()


def shared_weights(experiment: Experiment) -> pd.DataFrame:
    """The share of the weights chosen after fine-tuning that other ways of choosing as many keep
    too, and what chance would give, a row per seed.
    """
    rows = {}
    for seed in experiment.settings.seeds:
        ways = ("magnitude", "iterative", "before")
        after, between, before = (experiment.subnetwork(seed, way, "good") for way in ways)
        rows[seed] = {
            "with training in between": after.overlap(between)["weights"],  # type: ignore[arg-type]
            "before fine-tuning": after.overlap(before)["weights"],  # type: ignore[arg-type]
            "by chance": after.size / after.capacity,  # type: ignore[union-attr]
        }
    return pd.DataFrame(rows).T.rename_axis("seed").round(3)


def sizes_of_paper(task: str, method: str) -> pd.DataFrame:
    """Sizes of the authors' good subnetworks of a task, a row per seed: heads and MLPs, or steps of
    5% and the share of ranked weights that survives; in all rows the mean shares of the encoder and
    of what the paper prints. Empty for a task that the paper lacks.
    """
    known = paper.sizes().query("task == @task and method == @method and subnetwork == 'good'")
    own = ["heads", "mlps"] if ALL_METHODS[method].is_structured else ["steps", "surviving"]
    return known.set_index("seed")[[*own, "encoder_mean", "printed_mean"]]


def describe_patterns(experiment: Experiment, shares: pd.DataFrame) -> str:
    """What the shares of `shares_table` and the survival of heads say, in sentences."""
    lines = []
    for kind, name in (("raw", "Raw maps"), ("normed", "Norm-weighted maps")):
        part = shares[(shares["weights"] == "fine-tuned") & (shares["maps"] == kind)]
        told = [
            f"{share:.0%} of the maps of {'all heads' if heads == 'all' else 'super-survivors'}"
            for heads, share in zip(part["heads"], part["heterogeneous"], strict=True)
        ]
        survival, share = survival_and_shares(experiment, f"fine-tuned, {kind}")
        r = spell_interval(*correlation(survival.reshape(1, -1), share.reshape(1, -1)))
        lines.append(
            f"* **{name}:** {' and '.join(told)} are heterogeneous. The correlation of a head's "
            f"survival with that share, over {share.size} heads, is {r}."
        )
    return "\n".join(lines)


# How well patterns are told apart: on the labelled real maps set aside for it


def quality_table(store: RunStore) -> pd.DataFrame:
    """F1 and accuracy on the validation half of the labelled maps, with the paper's weighted F1.

    Returns:
        One row per kind of map ("raw", "normed") and classifier ("network", which the store keeps,
        "rules", and "commonest", which always names the commonest label).
    """
    known = paper.classifier_f1()
    rows = []
    for kind, (truth, answers) in _answers(store).items():
        commonest = np.full(len(truth), np.bincount(truth).argmax())
        for name, guess in (*answers.items(), ("commonest", commonest)):
            row: dict[str, object] = {"maps": kind, "classifier": name, "labelled": len(truth)}
            for average in ("weighted", "macro"):
                row[f"{average} F1"] = f1_score(truth, guess, average=average, zero_division=0)
            row["accuracy"] = accuracy_score(truth, guess)
            rows.append(row | {"paper": known[kind] if name == "network" else np.nan})
    return pd.DataFrame(rows).set_index(["maps", "classifier"]).round(3)


def confusions(store: RunStore) -> dict[str, np.ndarray]:
    """Confusion matrices int[patterns, patterns], labels by answers, by classifier and kind."""
    return {
        f"{name}, {kind} maps": confusion_matrix(truth, guess, labels=range(len(PATTERNS)))
        for kind, (truth, answers) in _answers(store).items()
        for name, guess in answers.items()
    }


def label_agreement(labelled: LabelledMaps | None = None) -> str:
    """How far two readers agree on the maps that both labelled, in a sentence."""
    first, second = (labelled or load_labelled()).read_twice()
    return (
        f"Two readers labelled {len(first)} of the raw maps; they agree on "
        f"{(first == second).mean():.0%} of them, Cohen's kappa "
        f"{cohen_kappa_score(first, second):.2f}. No classifier can be trusted beyond this."
    )


def _answers(store: RunStore) -> dict[str, tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Per kind of map: the labels, and what each classifier says."""
    labelled, network = load_labelled(), classifier(store)
    answers = {}
    for kind in KINDS:
        part = labelled.part(kind, "validation")
        by_network, by_rules = classify_by_cnn(network, part.maps), classify_by_rules(part.maps)
        answers[kind] = part.codes, {"network": by_network, "rules": by_rules}
    return answers
