"""Requests: what the command line asks for, as settings with the pages that are wanted of each.

A task may stand in a request twice, with all seeds for some pages and with fewer for others.
Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lotterylib.runs.methods import CORE, EXTRAS, SEVERAL_SEEDS
from lotterylib.runs.settings import Settings

Request = Sequence[tuple[Settings, Sequence[str]]]


def pages_wanted(settings: Settings, extras: Sequence[str], there: Path) -> list[str]:
    """The pages to make: those of every run, those asked for, and those that are there already.

    Args:
        settings: of one task; with a single seed no page compares seeds.
        extras: names in `methods.EXTRAS`.
        there: the folder of the task's pages.
    """
    asked = [
        page
        for name, page in EXTRAS.items()
        if name in extras or (there / f"{page}.ipynb").is_file()
    ]
    alone = len(settings.seeds) < 2
    return [page for page in (*CORE, *asked) if not (alone and page in SEVERAL_SEEDS)]


def in_parts(settings: Settings, wanted: Sequence[str], extra_seeds: int) -> Request:
    """The pages of every run with all seeds, and the extras with the first few of them.

    Args:
        settings: with all seeds.
        wanted: the task's pages.
        extra_seeds: how many seeds the pages of `EXTRAS` get; 0 for all.
    """
    extras = [page for page in wanted if page not in CORE]
    if not extras or not 0 < extra_seeds < len(settings.seeds):
        return [(settings, wanted)]
    fewer = replace(settings, seeds=settings.seeds[:extra_seeds])
    return [(settings, [page for page in wanted if page in CORE]), (fewer, extras)]
