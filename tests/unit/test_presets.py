"""Presets say how, budgets say how much."""

import itertools
from pathlib import Path

import pytest
from datasets import Dataset

from lotterylib.data.glue import TaskData
from lotterylib.data.pretrained import Encoder
from lotterylib.errors import LotteryError
from lotterylib.runs.experiment import Experiment
from lotterylib.runs.methods import METHODS
from lotterylib.runs.pattern_counts import counts_key
from lotterylib.runs.presets import BUDGETS, PAPER_SEEDS, PRESETS
from lotterylib.runs.settings import parse_settings

HERE = Path(__file__).parent

BEHAVIOUR = {
    "importance": (
        "test_importance.py::test_batchwise_scores_equal_their_own_slow_references",
        "test_searches.py::test_importance_is_measured_as_the_preset_says",
    ),
    "stale_importance": (
        "test_structured.py::test_stale_importance_changes_the_path",
        "test_searches.py::test_every_step_prunes_what_the_preset_calls_least_important",
    ),
    "magnitude_step": (
        "test_magnitude.py::test_every_step_equals_torchs_global_pruning_applied_again",
        "test_searches.py::test_weights_go_in_the_presets_steps",
    ),
    "random_structured": (
        "test_subnetworks.py::test_bernoulli_sizes_hold_on_average_only",
        "test_experiment.py::test_random_ones_are_sampled_as_the_preset_says",
    ),
    "bad_magnitude": (
        "test_magnitude.py::test_selection_equals_a_stable_sort",
        "test_experiment.py::test_bad_ones_are_sampled_or_the_smallest_weights",
    ),
    "stop_metric": ("test_searches.py::test_the_stop_metric_decides_the_searches",),
    "min_heads_per_layer": (
        "test_structured.py::test_a_search_for_heads_can_leave_every_layer_one",
        "test_searches.py::test_a_search_for_heads_leaves_every_layer_as_many_as_the_preset_says",
    ),
    "empty_layer_bias": (
        "test_gates.py::test_an_empty_layer_loses_the_bias_of_its_w_o_too_where_told",
    ),
    "attention_slices": (
        "test_attention.py::test_norm_weighted_maps_equal_the_norms_of_the_written_out_vectors",
        "test_pattern_counts.py::test_the_official_preset_takes_rows_and_no_token_types",
    ),
    "attention_token_types": (
        "test_attention.py::test_token_types_matter_for_pairs_alone",
        "test_pattern_counts.py::test_the_official_preset_takes_rows_and_no_token_types",
    ),
    "attention_in_subnetwork": (
        "test_pattern_counts.py::test_inside_a_subnetwork_the_maps_are_those_of_the_gated_model",
        "test_pattern_counts.py::"
        "test_only_the_official_preset_measures_inside_and_only_super_survivors",
    ),
}
"""For each difference between the presets, the tests that what it names is what is done."""


def test_paper_and_official_differ_exactly_where_they_should():
    paper, official = (dict(parse_settings("rte", preset=p)) for p in ("paper", "official"))
    differing = {name for name in paper if paper[name] != official[name]}
    assert differing == {"preset", *BEHAVIOUR}
    assert paper["threshold"] == official["threshold"] == 0.9
    assert paper["heads_step"] == official["heads_step"] == 0.1
    assert paper["magnitude_max_steps"] == official["magnitude_max_steps"] == 60


def test_the_values_are_those_of_the_text_and_of_the_code():
    both = [parse_settings("rte", preset=preset) for preset in ("paper", "official")]
    values = {name: tuple(getattr(each, name) for each in both) for name in BEHAVIOUR}
    assert values == {
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


@pytest.mark.parametrize("field", [*BEHAVIOUR, "magnitude_of", "embeddings"])
def test_each_choice_can_be_made_alone(field):
    paper, one = (dict(parse_settings("rte", preset=p)) for p in ("paper", f"paper+{field}"))
    assert {name for name in paper if paper[name] != one[name]} == {"preset", field}
    if field in BEHAVIOUR:
        assert one[field] == PRESETS["official"][field]


@pytest.mark.parametrize("field", BEHAVIOUR)
def test_every_difference_is_a_test_of_behaviour_somewhere(field):
    for place in BEHAVIOUR[field]:
        file, _, name = place.partition("::")
        assert f"\ndef {name}(" in (HERE / file).read_text(), place


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


@pytest.mark.parametrize("field", BEHAVIOUR)
def test_every_difference_alone_touches_what_it_should_and_nothing_else(field):
    paper, changed = digests(), digests(**{field: PRESETS["official"][field]})
    assert {name for name in paper if paper[name] != changed[name]} == TOUCHES[field]


def test_budgets_grow_and_the_full_one_is_the_papers():
    rows = [(each["train_rows"], each["dev_rows"]) for each in BUDGETS.values()]
    assert list(BUDGETS) == ["smoke", "laptop", "full"]
    assert (0, 0) < rows[0] < rows[1]
    assert BUDGETS["full"] == {"train_rows": 0, "dev_rows": 0, "epochs": 3, "seeds": PAPER_SEEDS}
    assert len(set(PAPER_SEEDS)) == 5
    for budget in BUDGETS.values():
        assert budget["seeds"] == PAPER_SEEDS[: len(budget["seeds"])] != ()


@pytest.mark.parametrize(("name", "given"), [("preset", "offical"), ("budget", "labtop")])
def test_the_nearest_name_is_suggested(name, given):
    with pytest.raises(LotteryError, match=r"Did you mean '(official|laptop)'"):
        parse_settings("rte", **{name: given})
