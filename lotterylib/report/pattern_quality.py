"""How well patterns are told apart: both classifiers on the labelled real maps set aside for it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, cohen_kappa_score, confusion_matrix, f1_score

from lotterylib.data.attention_maps import KINDS, LabelledMaps, load_labelled
from lotterylib.pattern_cnn import classify_by_cnn
from lotterylib.patterns import PATTERNS, classify_by_rules
from lotterylib.report import paper
from lotterylib.runs.pattern_counts import classifier
from lotterylib.runs.store import RunStore


def quality_table(store: RunStore) -> pd.DataFrame:
    """Weighted and macro F1 on the validation half of the labelled maps.

    Args:
        store: the trained network is kept there.

    Returns:
        One row per kind of map ("raw", "normed") and classifier ("network", "rules", and
        "commonest", which always names the commonest label), with the paper's weighted F1 for its
        network.
    """
    known = paper.classifier_f1()
    rows = []
    for kind, (truth, answers) in _answers(store).items():
        commonest = np.full(len(truth), np.bincount(truth).argmax())
        for name, guess in (*answers.items(), ("commonest", commonest)):
            rows.append(
                {
                    "maps": kind,
                    "classifier": name,
                    "labelled": len(truth),
                    "weighted F1": f1_score(truth, guess, average="weighted", zero_division=0),
                    "macro F1": f1_score(truth, guess, average="macro", zero_division=0),
                    "accuracy": accuracy_score(truth, guess),
                    "paper": known[kind] if name == "network" else np.nan,
                }
            )
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
    labelled = load_labelled()
    network = classifier(store)
    found = {}
    for kind in KINDS:
        part = labelled.part(kind, "validation")  # type: ignore[arg-type]
        answers = {
            "network": classify_by_cnn(network, part.maps),
            "rules": classify_by_rules(part.maps),
        }
        found[kind] = part.codes, answers
    return found
