"""How the experiment is done (`PRESETS`) and how much of it (`BUDGETS`): chosen apart.

A row gives settings other defaults than `settings.Settings` declares; each can still be set alone.
The presets differ where the published text and the authors' code do, or where the code alone says
how, as far as there is an option for it; `report/paper_numbers/differences.csv` lists them all.
"""

from __future__ import annotations

from typing import Any

PAPER_SEEDS = (1337, 42, 86, 71, 166)
"""The five seeds of the paper, in the order of the authors' scripts."""

OFFICIAL: dict[str, Any] = {
    "importance": "cumulative",
    "stale_importance": True,
    "magnitude_step": 0.05,
    "random_structured": "bernoulli",
    "bad_magnitude": "lowest",
    "stop_metric": "official",
    "min_heads_per_layer": 1,
    "empty_layer_bias": "dropped",
    "attention_slices": "rows",
    "attention_token_types": False,
    "attention_in_subnetwork": True,
}
"""What the authors' code and stored artefacts do otherwise than the text says."""

READINGS: dict[str, Any] = {"magnitude_of": "initial", "embeddings": "kept"}
"""Where text and code can be read alike, the other reading of the text."""

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "official": OFFICIAL,
    **{f"paper+{name}": {name: value} for name, value in (OFFICIAL | READINGS).items()},
}
"""As printed; as the authors' code did; and the paper's with one choice made otherwise."""

BUDGETS: dict[str, dict[str, Any]] = {
    "smoke": {"train_rows": 48, "dev_rows": 32, "epochs": 1, "seeds": PAPER_SEEDS[:2]},
    "laptop": {"train_rows": 1000, "dev_rows": 400, "epochs": 3, "seeds": PAPER_SEEDS[:2]},
    "full": {"train_rows": 0, "dev_rows": 0, "epochs": 3, "seeds": PAPER_SEEDS},
}
"""Rows of the splits (0 for all there are), passes over the training rows, seeds."""
