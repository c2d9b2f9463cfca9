"""Presets say how, budgets say how much."""

import itertools

import pytest
from datasets import Dataset

from lotterylib.data.glue import TaskData
from lotterylib.data.pretrained import Encoder
from lotterylib.runs.experiment import Experiment
from lotterylib.runs.methods import METHODS
from lotterylib.runs.pattern_counts import counts_key
from lotterylib.runs.presets import BUDGETS, PAPER_SEEDS
from lotterylib.runs.settings import parse_settings

DIFFERENCES = {
    "importance": ("example", "cumulative"),
    "stale_importance": (False, True),
    "magnitude_step": (0.1, 0.05),
    "random_structured": ("exact", "bernoulli"),
    "bad_magnitude": ("sampled", "lowest"),
    "stop_metric": ("reported", "official"),
    "min_heads_per_layer": (0, 1),
    "empty_layer_bias": ("kept", "dropped"),
    "attention_slices": ("columns", "rows"),
    "attention_token_types": (True, False),
    "attention_in_subnetwork": (False, True),
}
"""What the text says, and what the authors' code does."""


def test_paper_and_official_differ_exactly_where_text_and_code_do():
    paper, official = (dict(parse_settings("rte", preset=p)) for p in ("paper", "official"))
    both = {name: (paper[name], official[name]) for name in paper}
    differing = {name: pair for name, pair in both.items() if pair[0] != pair[1]}
    assert differing == {"preset": ("paper", "official"), **DIFFERENCES}
    fixed = [both[name] for name in ("threshold", "heads_step", "magnitude_max_steps")]
    assert fixed == [(0.9, 0.9), (0.1, 0.1), (60, 60)]


@pytest.mark.parametrize("field", [*DIFFERENCES, "magnitude_of", "embeddings"])
def test_each_choice_can_be_made_alone(field):
    paper, one = (dict(parse_settings("rte", preset=p)) for p in ("paper", f"paper+{field}"))
    assert {name for name in paper if paper[name] != one[name]} == {"preset", field}
    if field in DIFFERENCES:
        assert (paper[field], one[field]) == DIFFERENCES[field]


STRUCTURED = {"search-structured", "search-heads", "random-structured", "bad-structured"}
MAGNITUDE = {"search-magnitude", "random-magnitude", "bad-magnitude"}
TOUCHES = {
    "importance": STRUCTURED,
    "stale_importance": STRUCTURED,
    "magnitude_step": MAGNITUDE,
    "random_structured": {"random-structured"},
    "bad_magnitude": {"bad-magnitude"},
    "stop_metric": STRUCTURED | MAGNITUDE,
    "min_heads_per_layer": {"search-heads"},
    "empty_layer_bias": {"random-structured", "bad-structured"},
    "attention_slices": {"normed"},
    "attention_token_types": {"raw", "normed"},
    "attention_in_subnetwork": set(),  # it decides which maps are asked for
}


def digests(**choices):
    """The keys of what a preset may touch, for a task whose searches have a metric of their own."""
    settings = parse_settings("stsb", encoder="tiny", budget="full", **choices)
    encoder = Encoder("synthetic", None, "bert", "ab" * 32, 2e-5, "made up")
    nothing = Dataset.from_dict({"label": []})
    data = TaskData(nothing, nothing, "made up", "0123456789abcdef")
    made = Experiment(settings, encoder, data)
    keys = {
        f"search-{name}": made.search_key(1, name) for name in ("structured", "magnitude", "heads")
    }
    for kind, method in itertools.product(("random", "bad"), METHODS):
        keys[f"{kind}-{method}"] = made.score_key(1, method, kind, "pruned")
    for maps in ("raw", "normed"):
        keys[maps] = counts_key(made, 1, f"fine-tuned, {maps}")
    return {name: key.digest for name, key in keys.items()}


@pytest.mark.parametrize("field", DIFFERENCES)
def test_every_difference_alone_touches_what_it_should_and_nothing_else(field):
    paper, changed = digests(), digests(preset=f"paper+{field}")
    assert {name for name in paper if paper[name] != changed[name]} == TOUCHES[field]


def test_budgets_grow_and_the_full_one_is_the_papers():
    rows = [(each["train_rows"], each["dev_rows"]) for each in BUDGETS.values()]
    assert list(BUDGETS) == ["smoke", "laptop", "full"]
    assert (0, 0) < rows[0] < rows[1]
    assert BUDGETS["full"] == {"train_rows": 0, "dev_rows": 0, "epochs": 3, "seeds": PAPER_SEEDS}
    assert len(set(PAPER_SEEDS)) == 5
    for budget in BUDGETS.values():
        assert budget["seeds"] == PAPER_SEEDS[: len(budget["seeds"])] != ()
