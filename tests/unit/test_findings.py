"""Results, findings and tables, from tables whose answers are known."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lotterylib.encoder import Shape
from lotterylib.report import findings
from lotterylib.report.evidence import t_interval
from lotterylib.report.results import (
    COLUMNS,
    format_verdicts,
    load_results,
    save_results,
    verdicts,
)
from lotterylib.report.tables import NOTHING, score_table, search_states, trace_table
from lotterylib.subnetworks import StructuredSubnetwork
from tests.shared import on_record

SEEDS = (1, 2, 3)


def row(seed, method, subnetwork, phase, value, **others):
    values = {
        "encoder": "minilm",
        "task": "sst2",
        "preset": "paper",
        "budget": "full",
        "draw": 0,
        "metric": "accuracy",
        "reported": True,
        "density": 1.0,
        "constant": False,
    }
    named = {"seed": seed, "method": method, "subnetwork": subnetwork, "phase": phase}
    return dict.fromkeys(COLUMNS) | values | named | {"value": value} | others


def table(full=0.9, majority=0.5, frozen=0.7, good=0.9, bad=0.8, seeds=SEEDS, **others):
    """Full and subnetworks a hundredth apart per seed; random ones halfway between good and bad."""
    rows = [
        row(0, "none", "majority", "none", majority),
        row(0, "none", "frozen", "linear layer", frozen),
    ]
    for place, seed in enumerate(seeds):
        step = 0.01 * (place - (len(seeds) - 1) / 2)
        rows.append(row(seed, "none", "full", "fine-tuned", full + step))
        means = {"good": good, "random": (good + bad) / 2, "bad": bad}
        for method, kind, phase in itertools.product(
            ("structured", "magnitude"), means, ("pruned", "retrained")
        ):
            size = {"density": 0.4, "overlap_with_good": 1.0 if kind == "good" else 0.0}
            rows.append(row(seed, method, kind, phase, means[kind] + step, **size))
    return pd.DataFrame([r | others for r in rows], columns=list(COLUMNS))


def verdict(results, claim, method="structured"):
    rows = findings.claims(results)
    return rows[(rows["method"] == method) & rows["claim"].str.contains(claim)]["verdict"].item()


def test_the_interval_is_students():
    values = [0.1, 0.4, 0.35, 0.2]
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert t_interval(values) == pytest.approx((low, high))
    assert all(math.isnan(bound) for bound in [*t_interval([0.3]), *t_interval([0.3] * 3)])


def test_verdicts_are_a_line_per_method_in_the_order_of_the_tasks():
    both = pd.concat([table(), table(task="cola", metric="matthews")])
    lines = verdicts(both)
    assert list(lines["task"]) == ["CoLA", "CoLA", "SST-2", "SST-2"]
    assert (lines["preset"] + " " + lines["budget"] + " " + lines["encoder"]).unique() == [
        "paper full minilm"
    ]
    assert lines["kept"].tolist() == pytest.approx([0.4] * 4)
    assert lines["random retrained"].tolist() == pytest.approx([0.85] * 4)
    assert "40%" in format_verdicts(lines)
    without = both[both["method"] != "magnitude"]
    assert "nan" not in format_verdicts(verdicts(without))


@pytest.mark.parametrize("column", ["encoder", "preset", "budget", "request"])
def test_runs_that_differ_are_summarised_apart(column):
    """Each alone gives a line per method, with its own means."""
    both = pd.concat([table(good=0.9), table(good=0.7, **{column: "another"})])
    lines = verdicts(both)
    assert lines["good pruned"].tolist() == pytest.approx([0.9, 0.9, 0.7, 0.7])
    assert (lines["seeds"] == 3).all()
    shown = format_verdicts(lines)
    assert shown.count("another") == (0 if column == "request" else 2)


def test_a_phase_that_only_one_seed_has_does_not_weigh_its_size_twice():
    rows = table()
    rows.loc[(rows["seed"] == 1) & (rows["subnetwork"] == "good"), "density"] = 0.7
    longer = row(1, "structured", "good", "longer", 0.9, density=0.7, overlap_with_good=1.0)
    lines = verdicts(pd.concat([rows, pd.DataFrame([longer], columns=list(COLUMNS))]))
    assert lines["kept"].tolist() == pytest.approx([0.5, 0.5])


def test_a_results_table_is_read_back_as_it_was_saved(tmp_path):
    path = tmp_path / "minilm" / "sst2" / "results.csv"
    save_results(table(request=on_record(path.parent)), path)
    first = path.read_bytes()
    save_results(load_results(tmp_path), path)
    assert path.read_bytes() == first
    assert load_results(tmp_path / "nothing").empty


def test_claims_without_predictions_have_intervals_over_seeds_alone():
    wide = table(good=0.9, bad=0.899)
    wide.loc[(wide["subnetwork"] == "bad") & (wide["seed"] == 1), "value"] += 0.05
    assert verdict(wide, "bad subnetworks, retrained, do worse") == "undecided"
    told = findings.claims(wide)
    assert set(told["over"]) == {"seeds"}
    for measured, alone in zip(told["measured"], told["seeds alone"], strict=True):
        assert measured.endswith(f" {alone} over seeds") or alone == "not defined"
    assert set(told["letter"]) == {"a", "b", "c"}
    assert not told["claim"].str.contains("pruned").any()


def test_the_way_recovered_is_from_majority_to_full():
    found = findings.recovered(table(bad=0.71), "structured", "bad")
    assert found == pytest.approx((0.71 - 0.5) / 0.4)


def test_where_the_full_model_learnt_nothing_nothing_is_decided():
    flat = table(full=0.5, good=0.5, bad=0.5)
    assert set(findings.claims(flat)["verdict"]) == {"not defined"}
    assert "does not beat the majority class" in findings.warn(flat)


def test_warnings_name_what_must_be_known():
    assert findings.warn(table()) == ""
    assert "opposite label" in findings.warn(table(task="wnli"))
    assert "exercises the code" in findings.warn(table(budget="smoke"))
    results = table()
    results.loc[(results["subnetwork"] == "bad") & (results["seed"] == 2), "constant"] = True
    assert "structured bad pruned: 1" in findings.warn(results)


def test_sentences_hold_the_numbers_of_the_table():
    results = table()
    assert "0.900 (95% interval over 3 seeds" in findings.describe_full(results)
    assert "frozen encoder 0.700" in findings.describe_full(results)
    assert "**40%**" in findings.describe_search(results, "structured")
    told = findings.describe_subnetworks(results, "magnitude")
    assert "bad 0.800 (75% of the way)" in told
    assert told.endswith("seed by seed: 0.100 (the same in all 3 seeds).")


def test_the_score_table_has_a_column_per_seed_and_no_nan():
    shown = score_table(table())
    assert list(shown.columns) == list(SEEDS)
    assert shown.loc[("none", "majority", "none")].tolist() == ["0.500", NOTHING, NOTHING]
    assert "nan" not in shown.to_string().lower()


def test_traces_of_both_searches_become_tables():
    structured = {
        "phase": "heads",
        "heads": [[1, 0], [1, 1]],
        "mlps": [0, 1],
        "density": 0.5,
        "score": 0.8,
        "kept": True,
    }
    shown = trace_table([structured]).iloc[0]
    assert (shown["heads"], shown["MLPs"], shown["encoder left"]) == (3, 1, 0.5)
    magnitude = {"pruned": 10, "surviving": 0.9, "score": 0.4, "kept": False}
    assert search_states([structured, magnitude])["left"].tolist() == [0.5, 0.9]
    assert not search_states([structured, magnitude])["held"].iloc[1]


# The further pages


def further(**cells):
    """The table with more cells, by `method__kind__phase`, "_" for the space or hyphen in a name.

    A cell is a value per seed, or a density and these values.
    """
    rows = []
    for name, values in cells.items():
        method, kind, phase = name.split("__")
        density = 0.4
        if isinstance(values[0], tuple):
            (density,), values = values
        for seed, value in zip(SEEDS, values, strict=False):
            named = (method.replace("_", "-"), kind, phase.replace("_", " "))
            rows.append(row(seed, *named, value, density=density))
            rows.append(row(seed, *named, -9.0, density=density, reported=False, metric="f1"))
    return pd.concat([table(), pd.DataFrame(rows, columns=list(COLUMNS))], ignore_index=True)


def interval(values):
    """A mean with its interval over seeds, as sentences have it."""
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    return f"{np.mean(values):.3f} (95% interval over {len(values)} seeds {low:.3f} to {high:.3f})"


def test_a_value_is_told_with_its_interval_or_that_there_is_none():
    assert findings.spell_interval(0.25, -0.1, 0.5) == "0.250 (95% interval -0.100 to 0.500)"
    assert findings.spell_interval(0.25, math.nan, math.nan) == "0.250 (interval not defined)"
    assert findings.spell_interval(math.nan, math.nan, math.nan) == "not defined"
    assert findings.spell(pd.Series([0.5] * 3)) == "0.500 (the same in all 3 seeds)"
    paired = pd.Series({1: 0.5, 2: 0.6}) - pd.Series({2: 0.2, 3: 0.1})
    assert findings.spell(paired) == "0.400 (one seed)"
    assert findings.spell(paired.iloc[:1]) == "not defined"


def agreement_row(**values):
    usual = {"kappa": 0.25, "kappa_low": 0.1, "kappa_high": 0.4, "seeds": 3}
    return (
        usual
        | {"overlap": 41.3, "chance": 38.6, "overlap_p": 0.2, "overlap_p_least": 0.0005}
        | values
    )


def test_sentences_on_stability_hold_the_numbers_of_both_parts():
    agreement = pd.DataFrame(
        [
            agreement_row(kappa=0.314159, kappa_low=0.2, kappa_high=0.42, overlap_p=0.0004998),
            agreement_row(kappa=-0.05, overlap=4.0, chance=4.44, overlap_p=0.05),
        ],
        index=["heads", "mlps"],
    )
    heads, mlps = findings.describe_stability(agreement).split(" For MLPs")
    assert "kappa over 3 seeds is **0.31** (95% interval over heads 0.20 to 0.42)" in heads
    assert "share 41.3 heads on average" in heads
    least = "; for masks of these sizes it is at least 0.0005)"
    assert f"share 38.6: more than chance explains (permutation test, p = 0.0005{least}" in heads
    assert "is **-0.05** (95% interval over MLPs 0.10 to 0.40)" in mlps
    assert f"share 4.4: no more than chance explains (permutation test, p = 0.05{least}" in mlps


def test_an_agreement_that_is_not_defined_has_no_interval():
    nothing = dict.fromkeys(("kappa", "kappa_low", "kappa_high"), math.nan)
    one_item = {"kappa_low": math.nan, "kappa_high": math.nan}
    agreement = pd.DataFrame(
        [agreement_row(**nothing), agreement_row(**one_item)], index=["heads", "mlps"]
    )
    heads, mlps = findings.describe_stability(agreement).split(" For MLPs")
    assert "kappa over 3 seeds is not defined. Two" in heads
    assert "kappa over 3 seeds is **0.25**. Two" in mlps
    assert "nan" not in heads + mlps


def test_sentences_on_super_survivors():
    good, bad = (0.80, 0.82, 0.87), (0.71, 0.70, 0.75)
    results = further(super__good__retrained=((0.23,), good), super__bad__retrained=((0.23,), bad))
    told = findings.describe_super(results)
    assert "in all 3 seeds is 23% of the encoder" in told
    assert f"reaches **{interval(good)}**" in told
    assert "each seed's own good subnetwork 0.900, the full model 0.900" in told
    assert "majority class 0.500" in told
    assert f"seed by seed: {interval(np.subtract(good, bad))}." in told


def test_no_super_survivors_are_told_apart():
    """The biases that belong to no head survive always, so the density is not quite zero."""
    nothing = StructuredSubnetwork(np.zeros((12, 12), dtype=bool), np.zeros(12, dtype=bool))
    density = nothing.density(Shape(12, 12, 768, 3072, total=109_483_778))
    same = (0.5, 0.5, 0.5)
    results = further(
        super__good__retrained=((density,), same), super__bad__retrained=((density,), same)
    )
    # as in a collected table: a share of nothing is not defined
    results.loc[results["method"] == "super", "overlap_with_good"] = math.nan
    assert "there are no super-survivors" in findings.describe_super(results)


def held_out(seen, unseen, method="structured"):
    """The rows of a method: all of dev, half of dev, and training rows."""
    places = {"all of dev": [-9.0] * 3, "half of dev": seen, "training rows": [math.nan] * 3}
    others = {"all of dev": [math.nan] * 3, "half of dev": unseen, "training rows": [-8.0] * 3}
    rows = [
        {"method": method, "searched on": place, "seed": seed, "seen": a, "unseen": b}
        for place in places
        for seed, a, b in zip(SEEDS, places[place], others[place], strict=True)
    ]
    return pd.DataFrame(rows)


def test_sentences_on_held_out_examples_are_of_the_halves():
    seen, unseen = [-0.01, -0.02, -0.06], [-0.05, -0.04, -0.12]
    both = pd.concat([held_out(seen, unseen), held_out(unseen, seen, "magnitude")])
    structured, magnitude = findings.describe_held_out(both).split("\n\n")
    assert structured.startswith("**Structured pruning:**")
    assert "loses 0.030 on that half and 0.070 on the other" in structured
    assert f"is {interval(np.subtract(seen, unseen))}." in structured
    assert "-0.000" not in findings.describe_held_out(held_out([0.0] * 3, [0.0] * 3))
    assert magnitude.startswith("**Magnitude pruning:**")
    assert "loses 0.070 on that half and 0.030 on the other" in magnitude
    assert f"is {interval(np.subtract(unseen, seen))}." in magnitude


def test_sentences_on_bad_subnetworks():
    """Bad ones, retrained, have 0.79, 0.80, 0.81 in the table; the frozen encoder has 0.7."""
    bad = np.array([0.79, 0.80, 0.81])
    longer, better, rest = [0.80, 0.83, 0.89], [0.85, 0.86, 0.90], [0.84, 0.80, 0.85]
    results = further(
        none__bilstm__trained=[0.655],
        structured__random__from_scratch=[0.6, 0.62, 0.67],
        structured__bad__longer=longer,
        disjoint__good__retrained=better,
        disjoint__bad__retrained=rest,
    )
    first, second, third = findings.describe_bad(results).splitlines()
    assert f"retrained: **{interval(bad)}**" in first
    assert "frozen encoder reaches 0.700, a BiLSTM on its embeddings 0.655" in first
    assert "random weights trained as long 0.630" in first
    assert f"Bad less frozen: {interval(bad - 0.7)}." in first
    assert f"by {interval(longer - bad)}." in second
    assert f"reaches {interval(rest)}." in third
    assert f"this one: {interval(np.subtract(better, rest))}." in third


SIZES = {
    "heads": 0.7,
    "mlps": 0.62,
    "union": 0.33,
    "structured_95": 0.71,
    "structured_80": 0.29,
    "magnitude_95": 0.52,
    "magnitude_80": 0.19,
}


def test_sentences_on_variants():
    union = (0.72, 0.6, 0.66)
    cells = {
        f"{method}__good__pruned": ((size,), union if method == "union" else (0.8, 0.8, 0.8))
        for method, size in SIZES.items()
    }
    # what was inverted has a size of its own, which is not the good one's
    cells["heads__inverted__pruned"] = ((0.99,), (0.5, 0.5, 0.5))
    told = findings.describe_variants(further(**cells))
    assert "for heads alone leaves 70% of the encoder and for MLPs alone 62%" in told
    assert "together 40% are left" in told
    assert f"leave 33% and score **{interval(union)}**, 73% of the full model's 0.900" in told
    assert "the score takes 71% of the encoder and 80% takes 29%" in told
    assert "for single weights 52% and 19%" in told


@pytest.mark.filterwarnings("error")
def test_a_full_model_at_zero_has_no_share():
    """A Matthews correlation of 0 is what a constant predictor has."""
    cells = {f"{method}__good__pruned": ((size,), (0, 0, 0)) for method, size in SIZES.items()}
    results = further(**cells)
    results["value"] = 0.0
    told = findings.describe_variants(results)
    assert "nan" not in told
    assert "inf" not in told


def test_sentences_on_extensions_are_differences_seed_by_seed():
    cells = {
        "structured__good__rewound": (0.90, 0.93, 0.91),
        "magnitude__good__rewound": (0.88, 0.91, 0.95),
        "iterative__good__retrained": (0.89, 0.95, 0.97),
        "before__good__retrained": (0.70, 0.65, 0.72),
        "matched__good__pruned": (0.91, 0.95, 0.90),
        "matched__good__retrained": (0.92, 0.99, 0.95),
    }
    results = further(**cells)
    usual = {
        ("structured", "pruned"): (0.87, 0.88, 0.86),
        ("structured", "retrained"): (0.89, 0.90, 0.93),
        ("magnitude", "pruned"): (0.80, 0.83, 0.81),
        ("magnitude", "retrained"): (0.82, 0.81, 0.87),
    }
    for (method, phase), values in usual.items():
        cell = (results["method"] == method) & (results["phase"] == phase)
        results.loc[cell & (results["subnetwork"] == "good"), "value"] = values

    def gap(name, *other):
        return interval(np.subtract(cells[name], usual[other]))

    rewound, iterative, before, matched = findings.describe_extensions(results).splitlines()
    whole, single = ("structured", "retrained"), ("magnitude", "retrained")
    assert rewound.startswith("* Rewound less")
    assert f"heads and MLPs {gap('structured__good__rewound', *whole)}; weights" in rewound
    assert f"weights {gap('magnitude__good__rewound', *single)}." in rewound
    assert f"way: {gap('iterative__good__retrained', *single)}." in iterative
    assert f"way: {gap('before__good__retrained', *single)}." in before
    assert f"pruned {gap('matched__good__pruned', 'structured', 'pruned')}; ret" in matched
    assert f"retrained {gap('matched__good__retrained', *whole)}." in matched


def test_differences_are_paired_by_seed_whatever_the_order_of_the_rows():
    good, bad = (0.80, 0.82, 0.87), (0.71, 0.70, 0.75)
    results = further(super__good__retrained=good, super__bad__retrained=bad)
    shuffled = results.sample(frac=1, random_state=3)
    assert findings.describe_super(shuffled) == findings.describe_super(results)


def test_one_seed_has_no_interval():
    results = further(
        super__good__retrained=(0.8,), super__bad__retrained=(0.7,), none__bilstm__trained=(0.6,)
    )
    results = results[results["seed"] <= 1]
    assert "**0.800 (one seed)**" in findings.describe_super(results)
    assert "seed by seed: 0.100 (one seed)." in findings.describe_super(results)
