"""The picture of attention on words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lotterylib.report.pictures import frame
from lotterylib.report.published import Found
from lotterylib.tasks import title_of


def words(
    sentences: Sequence[Sequence[str]],
    raw: Sequence[np.ndarray],
    weighted: Sequence[np.ndarray],
    good: Mapping[str, Found],
) -> str:
    """Where each token of some sentences attends, in every head, and which seeds keep the head.

    The picture opens with the head and the token of the first sentence on which the two kinds of
    map differ most.

    Args:
        sentences: their tokens.
        raw, weighted: per sentence its maps (`attention.attention_maps`), float[layers, heads, n,
            n]; rows are shown as shares of their sum.
        good: `published.load_subnetworks`, of which the structured ones are shown.
    """
    shares = [
        [each / each.sum(-1, keepdims=True) for each in maps]
        for maps in zip(raw, weighted, strict=True)
    ]
    apart = np.abs(shares[0][0] - shares[0][1]).sum(-1)
    layer, head = np.unravel_index(apart.mean(-1).argmax(), apart.shape[:2])
    token = int(apart[layer, head].argmax())
    data = {
        "start": [int(layer), int(head), token],
        "sentences": [
            {"tokens": list(tokens), "raw": _hundredths(first), "weighted": _hundredths(second)}
            for tokens, (first, second) in zip(sentences, shares, strict=True)
        ],
        "tasks": [
            {
                "title": title_of(task),
                "seeds": list(found["structured"]),
                "kept": [each.heads.astype(int).tolist() for each in found["structured"].values()],
            }
            for task, found in good.items()
        ],
    }
    opening = (maps[layer, head, token] for maps in shares[0])
    rows = [
        (word, f"{plain:.2f}", f"{normed:.2f}")
        for word, plain, normed in zip(sentences[0], *opening, strict=True)
    ]
    caption = f"Layer {layer + 1}, head {head + 1}: where “{sentences[0][token]}” attends"
    return frame("words", data, caption, ("Token", "Raw", "Norm-weighted"), rows)


def _hundredths(maps: np.ndarray) -> list[list[list[int]]]:
    """Shares as whole hundredths: int[layers][heads][n * n], row by row."""
    return np.rint(100 * maps).astype(int).reshape(*maps.shape[:2], -1).tolist()
