"""Task overlap: how many heads or MLPs the good subnetworks of two tasks share (paper, 5.3).

Subnetworks of the same seed are compared and the counts averaged over seeds, as in the paper's
Figure 5 and Appendix G. Two large subnetworks share much by chance, so each count comes with what
random subnetworks of the same sizes would share, and with the p-value of a permutation test.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lotterylib.agreement import Part, stack
from lotterylib.errors import LotteryError
from lotterylib.subnetworks import StructuredSubnetwork


@dataclass(frozen=True, eq=False)
class TaskOverlap:
    """What each two tasks share, as symmetric arrays [task, task].

    Attributes:
        part: "heads" or "mlps".
        tasks: the names, in the order of the arrays.
        mean: items shared, averaged over seeds; on the diagonal, how many survive.
        sd: its standard deviation over seeds (ddof 1); nan for a single subnetwork per task.
        chance: the items that random masks of the same sizes would share, `|A| |B| / items`,
            averaged over seeds; on the diagonal likewise, for two masks of the task's own size.
        p: one-sided p-values, not corrected for the number of pairs; nan on the diagonal. Which
            item of the one task meets which of the other is shuffled, in the same way for all
            seeds: so what the seeds of a task have in common is no independent evidence.
    """

    part: Part
    tasks: tuple[str, ...]
    mean: np.ndarray
    sd: np.ndarray
    chance: np.ndarray
    p: np.ndarray


def task_overlap(
    subnetworks: Mapping[str, Sequence[StructuredSubnetwork]],
    part: Part,
    permutations: int = 2000,
    seed: int = 0,
) -> TaskOverlap:
    """Compare the subnetworks of several tasks (paper, section 5.3; authors'
    `common_components.ipynb`).

    Args:
        subnetworks: of each task one per seed, in the same order of seeds; or one per task.
        part: "heads" or "mlps".
        permutations, seed: of the test; `p` is (1 + as large) / (1 + permutations).

    Raises:
        LotteryError: no task, tasks with different numbers of seeds, or of different encoders.
    """
    if not subnetworks:
        raise LotteryError("There is no task whose subnetworks could be compared.")
    tasks, first = tuple(subnetworks), next(iter(subnetworks))
    for task, found in subnetworks.items():
        if len(found) != len(subnetworks[first]):
            raise LotteryError(
                f"Tasks are compared seed by seed, but {first} has subnetworks of "
                f"{len(subnetworks[first])} seeds and {task} of {len(found)}."
            )
    together = stack([each for found in subnetworks.values() for each in found], part)
    masks = together.reshape(len(tasks), -1, together.shape[1]).astype(int)
    shared = np.einsum("asi,bsi->sab", masks, masks)
    sizes = masks.sum(-1)
    chance = np.einsum("as,bs->ab", sizes, sizes) / sizes.shape[1] / masks.shape[-1]
    one_seed = len(shared) == 1
    return TaskOverlap(
        part=part,
        tasks=tasks,
        mean=shared.mean(0),
        sd=np.full(chance.shape, np.nan) if one_seed else shared.std(0, ddof=1),
        chance=chance,
        p=_p_values(masks, permutations, np.random.default_rng(seed)),
    )


def _p_values(masks: np.ndarray, permutations: int, draw: np.random.Generator) -> np.ndarray:
    tasks, _, items = masks.shape
    order = np.arange(items)
    shuffled = draw.permuted(np.tile(order, (permutations, 1)), axis=1)
    values = np.full((tasks, tasks), np.nan)
    for a, b in itertools.combinations(range(tasks), 2):
        together = masks[a].T @ masks[b]  # [i, j]: in how many seeds a keeps i and b keeps j
        as_large = together[order, shuffled].sum(1) >= together.trace()
        values[a, b] = values[b, a] = (1 + as_large.sum()) / (1 + permutations)
    return values
