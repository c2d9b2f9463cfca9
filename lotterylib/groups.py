"""Groups: cells whose trainings a GPU does together, as one batch (`together`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lotterylib.cells import Cell, key_of, wave_of
from lotterylib.experiment import Experiment
from lotterylib.gates import remove
from lotterylib.gpu import computed_on
from lotterylib.store import Key
from lotterylib.subnetworks import StructuredSubnetwork
from lotterylib.together import train_together
from lotterylib.training import Progress, silent

STAGES = ("finetune", "retrained", "longer", "from scratch")
"""Whose cells can be trained together; others train nothing, or from where others left off."""

Work = Sequence[tuple[Experiment, Cell]]
Group = tuple[Experiment, list[Cell]]


def groups_of(work: Work, most: int) -> list[Group]:
    """Cells in an order in which they can be done, those that can be trained together as one item.

    Args:
        work: cells; what they need stands before them.
        most: trainings at once; below 2 every cell is by itself and the order stays.
    """
    if most < 2:
        return [(experiment, [cell]) for experiment, cell in work]
    alike: dict[tuple, Group] = {}
    for experiment, cell in work:
        kind = cell.stage if cell.stage in STAGES else str(cell)
        key = (wave_of(cell), id(experiment), kind)
        alike.setdefault(key, (experiment, []))[1].append(cell)
    return [
        (experiment, cells[start : start + most])
        for _, (experiment, cells) in sorted(alike.items(), key=lambda each: each[0][0])
        for start in range(0, len(cells), most)
    ]


def compute_together(
    experiment: Experiment, cells: Sequence[Cell], report: Progress = silent
) -> None:
    """Compute cells of one stage, whose artefacts are then in the store, or else none of them.

    Args:
        experiment: whose.
        cells: of one stage of `STAGES`.
        report: told of the progress.

    Raises:
        LotteryError: as `train_together` and the store do. One after another they may succeed.
    """
    cell_at = {key_of(experiment, cell).path: cell for cell in cells}

    def make(missing: Sequence[tuple[Key, Path]]) -> None:
        now = [cell_at[key.path] for key, _ in missing]
        subnetworks = [
            experiment.subnetwork(cell.seed, cell.method, cell.kind) if cell.method else None
            for cell in now
        ]
        starts = [experiment.start(cell.seed, cell.stage) for cell in now]
        models, recipe = [model for model, _, _ in starts], starts[0][1]
        losses = train_together(
            models,
            experiment.splits[0],
            experiment.task,
            recipe,
            [cell.seed for cell in now],
            subnetworks,
            report,
        )
        for (_, folder), cell, model, subnetwork, found in zip(
            missing, now, models, subnetworks, losses, strict=True
        ):
            if isinstance(subnetwork, StructuredSubnetwork):
                remove(model, subnetwork)
            experiment.keep(folder, model, found, cell.stage)

    keys = [key_of(experiment, cell) for cell in cells]
    experiment.store.make_together(keys, make, computed_on(experiment.device, scaled=False))
