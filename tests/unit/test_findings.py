"""Results, findings and tables, from tables whose answers are known."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lotterylib.report import findings
from lotterylib.report.results import (
    _rows,
    format_verdicts,
    load_results,
    save_results,
    verdicts,
)
from lotterylib.report.tables import NOTHING, score_table, search_states, trace_table
from lotterylib.runs.methods import KINDS, METHODS, PHASES
from lotterylib.scoring import score_predictions
from lotterylib.tasks import find_task
from tests.results import SEEDS, results_of
from tests.shared import on_record

STEPS = np.array([-0.01, 0, 0.01])
"""By how much scores differ from their mean over the seeds."""


def table(full=0.9, good=0.9, bad=0.7, **others):
    """Random ones are halfway between good and bad, and all lose a tenth as pruned."""
    means = {"good": good, "random": (good + bad) / 2, "bad": bad}
    cells = {("none", "majority", "none"): [0.5], ("none", "frozen", "linear layer"): [0.7]}
    cells["none", "full", "fine-tuned"] = full + STEPS
    for method, kind, phase in itertools.product(METHODS, KINDS, PHASES):
        cells[method, kind, phase] = means[kind] + STEPS - 0.1 * (phase == "pruned")
    return results_of(cells, **others)


def further(cells, density=0.4):
    """The table with more cells."""
    return pd.concat([table(), results_of(cells, density=density)], ignore_index=True)


def where(results, **cell):
    """Which rows have these values."""
    return (results[list(cell)] == list(cell.values())).all(axis=1)


def interval(values):
    """A mean with its interval over seeds, as sentences have it."""
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    return f"{np.mean(values):.3f} (95% interval over {len(values)} seeds {low:.3f} to {high:.3f})"


# Results


def test_verdicts_are_a_line_per_method_in_the_order_of_the_tasks():
    both = pd.concat([table(), table(task="cola", metric="matthews")])
    lines = verdicts(both)
    assert list(lines["task"]) == ["CoLA", "CoLA", "SST-2", "SST-2"]
    named = lines[["preset", "budget", "encoder"]].drop_duplicates().to_numpy().tolist()
    assert named == [["paper", "full", "minilm"]]
    assert lines["random retrained"].tolist() == pytest.approx([0.8] * 4)
    without = verdicts(both[both["method"] != "magnitude"])
    first, second = [line.split() for line in format_verdicts(without).splitlines()[1:3]]
    means = ["0.900", "0.800", "0.700", "0.600", "0.900", "0.800", "0.700"]
    assert first[-8:] == ["40%", *means]
    assert second[-8:] == [NOTHING, "0.900", *[NOTHING] * 6]


@pytest.mark.parametrize("column", ["encoder", "preset", "budget", "request"])
def test_runs_that_differ_are_summarised_apart(column):
    """Each alone gives a line per method, with its own means."""
    lines = verdicts(pd.concat([table(good=0.9), table(good=0.7, **{column: "another"})]))
    assert lines["good pruned"].tolist() == pytest.approx([0.8, 0.8, 0.6, 0.6])
    assert (lines["seeds"] == 3).all()
    assert format_verdicts(lines).count("another") == (0 if column == "request" else 2)


def test_a_phase_that_only_one_seed_has_does_not_weigh_its_size_twice():
    lines = verdicts(further({("structured", "good", "longer"): [0.9]}, density=0.9))
    assert lines["kept"].tolist() == pytest.approx([0.4, 0.4])


def test_a_results_table_is_read_back_as_it_was_saved(tmp_path):
    path = tmp_path / "minilm" / "sst2" / "results.csv"
    whole = table(request=on_record(path.parent))
    save_results(pd.concat([whole, whole.tail(1).assign(draw=1)]), path)
    first = path.read_bytes()
    assert len(load_results(tmp_path)) == len(whole)
    save_results(load_results(tmp_path, every_draw=True), path)
    assert path.read_bytes() == first
    assert load_results(tmp_path / "nothing").empty


@pytest.mark.parametrize(
    ("kind", "draw", "good"), [("random", 2, 0), ("bad", 1, 0), ("good", 2, 2)]
)
def test_a_draw_is_held_against_the_good_one_beside_which_it_was_drawn(kind, draw, good):
    def subnetwork(seed, method, kind, number):
        shares = {"density": lambda _: 0.5, "printed_share": lambda _: 0.4}
        return SimpleNamespace(number=number, shared_share=lambda other, _: other.number, **shares)

    made = SimpleNamespace(subnetwork=subnetwork, shape=None, task=find_task("rte"))
    score = score_predictions([0, 1], [0, 1], made.task)
    rows = list(_rows(made, score, None, 1, ("structured", kind, "pruned"), draw))
    assert [each["metric"] for each in rows if each["reported"]] == ["accuracy"]
    assert {each["overlap_with_good"] for each in rows} == {good}


# Claims and warnings


def test_claims_without_predictions_have_intervals_over_seeds_alone():
    wide = table(good=0.9, bad=0.899)
    wide.loc[where(wide, subnetwork="bad", seed=1, reported=True), "value"] += 0.05
    told = findings.claims(wide)
    (undecided,) = told[told["claim"].str.startswith("bad") & (told["method"] == "structured")].iloc
    assert undecided["verdict"] == "undecided"
    gaps = [0.001 - 0.05, 0.001, 0.001]
    low, high = stats.t.interval(0.95, 2, np.mean(gaps), stats.sem(gaps))
    assert undecided["measured"] == f"{np.mean(gaps):+.3f} [{low:+.3f}, {high:+.3f}] over seeds"
    assert undecided["seeds alone"] == f"[{low:+.3f}, {high:+.3f}]"
    assert set(told["over"]) == {"seeds"}
    assert told["letter"].tolist() == ["a", "b", "b", "c"] * 2


@pytest.mark.parametrize("factor", [1, 2])
def test_the_tasks_of_glue_and_generated_ones_are_families_of_their_own(factor):
    """Holm: the smaller of two p-values counts twice."""
    p = {"cola": 0.03 * factor, "rte": 0.02 * factor, "entailment": 0.04 * factor}
    told = {"claim": ["x"], "method": ["y"], "direction": [1], "learnt": [True]}
    judged = findings.claims_over_tasks({t: pd.DataFrame(told | {"p": [p[t]]}) for t in p})
    assert judged["corrected_p"].tolist() == pytest.approx([0.04 * factor] * 3)
    assert set(judged["verdict"]) == {"yes" if factor == 1 else "undecided"}
    p |= {"wnli": np.nan, "sst2": np.nan}  # one not learnt, which counts for nothing, and one that
    tables = {t: pd.DataFrame(told | {"p": [p[t]], "learnt": [t != "wnli"]}) for t in p}
    judged = findings.claims_over_tasks(tables).set_index("task")  # could not be defined
    assert judged.loc[["cola", "rte"], "corrected_p"].tolist() == pytest.approx([0.06 * factor] * 2)
    assert judged.loc[["wnli", "sst2"], "verdict"].tolist() == ["not defined"] * 2


def test_where_the_full_model_learnt_nothing_nothing_is_decided():
    flat = table(full=0.5, good=0.5, bad=0.3)
    flat.loc[where(flat, subnetwork="bad", seed=1), "value"] += 0.01
    assert set(findings.claims(flat)["verdict"]) == {"not defined"}
    assert findings.warn(flat) == (
        "The full model (0.500) does not beat the majority class (0.500), so there is nothing for "
        "a subnetwork to keep."
    )


def test_warnings_name_what_must_be_known():
    results = table()
    assert findings.warn(results) == ""
    assert "opposite label" in findings.warn(table(task="wnli"))
    assert "exercises the code" in findings.warn(table(budget="smoke"))
    results.loc[where(results, subnetwork="bad", seed=2), "constant"] = True
    assert "structured bad pruned: 1" in findings.warn(results)


def test_a_value_is_told_with_its_interval_or_that_there_is_none():
    assert findings.spell_interval(0.25, -0.1, 0.5) == "0.250 (95% interval -0.100 to 0.500)"
    assert findings.spell_interval(0.25, math.nan, math.nan) == "0.250 (interval not defined)"
    assert findings.spell_interval(math.nan, math.nan, math.nan) == "not defined"
    assert findings.spell(pd.Series([0.5] * 3)) == "0.500 (the same in all 3 seeds)"
    for sign in ("", "-"):  # beyond either end of the scale
        wide = f"{sign}0.850 (interval over 2 seeds not defined)"
        assert findings.spell(pd.Series([float(f"{sign}{x}") for x in (0.8, 0.9)])) == wide
    score = pd.Series([0.2, 0.24])  # 0.22 ± 0.25
    assert findings.spell(score) == "0.220 (95% interval over 2 seeds -0.034 to 0.474)"
    assert findings.spell(score, lowest=0) == "0.220 (interval over 2 seeds not defined)"
    paired = pd.Series({1: 0.5, 2: 0.6}) - pd.Series({2: 0.2, 3: 0.1})
    assert findings.spell(paired) == "0.400 (one seed)"
    assert findings.spell(paired.iloc[:1]) == "not defined"


# Tables


def test_the_score_table_has_a_column_per_seed_and_no_nan():
    shown = score_table(table())
    assert list(shown.columns) == list(SEEDS)
    assert shown.loc[("none", "majority", "none")].tolist() == ["0.500", NOTHING, NOTHING]
    assert "nan" not in shown.to_string().lower()


def test_traces_of_both_searches_become_tables():
    structured = {"phase": "heads", "heads": [[1, 0], [1, 1]], "mlps": [0, 1], "density": 0.4}
    structured |= {"score": 0.8, "kept": True}
    (shown,) = trace_table([structured]).to_dict("records")
    sizes = {"heads": 3, "MLPs": 1, "encoder left": 0.4}
    assert shown == {"phase": "heads", **sizes, "score": 0.8, "held": True}
    magnitude = {"pruned": 10, "surviving": 0.9, "score": 0.4, "kept": False}
    assert trace_table([magnitude])["weights left"].tolist() == [0.9]
    states = search_states([structured, magnitude])
    assert states[["left", "held"]].to_numpy().tolist() == [[0.4, True], [0.9, False]]


# Sentences


def test_sentences_hold_the_numbers_of_the_table():
    results = table()
    assert findings.describe_full(results) == (
        "The full model's accuracy is **0.900 (95% interval over 3 seeds 0.875 to 0.925)**; always "
        "giving the commonest training label reaches 0.500, a linear layer on the frozen encoder "
        "0.700. The seeds alone move the score by up to 0.020: differences between subnetworks "
        "that are smaller than this say little."
    )
    assert findings.describe_search(results, "structured") == (
        "The good subnetwork keeps **40%** of the encoder's dense parameters on average over 3 "
        "seeds (from 30% to 50%) and scores 0.800 (95% interval over 3 seeds 0.775 to 0.825), "
        "against 0.900 for the full model. The search chose it on the very examples that it is "
        "scored on, as in the paper, so this score is optimistic."
    )
    assert findings.describe_subnetworks(results, "magnitude") == (
        "**Magnitude pruning.** As pruned: good 0.800, random 0.700, bad 0.600. Retrained, with "
        "the share of the way from the majority class to the full model that is recovered: good "
        "0.900 (100% of the way), random 0.800 (75% of the way), bad 0.700 (50% of the way). Good "
        "less bad, retrained, seed by seed: 0.200 (the same in all 3 seeds)."
    )
    assert "class" not in findings.describe_subnetworks(table(full=0.5), "magnitude")


LEAST = "for masks of these sizes it is at least 0.0005"


def agreement_of(heads, mlps):
    usual = {"kappa": 0.25, "kappa_low": 0.1, "kappa_high": 0.4, "seeds": 3, "overlap": 41.3}
    usual |= {"chance": 38.6, "overlap_p": 0.2, "overlap_p_least": 0.0005}
    return pd.DataFrame([usual | heads, usual | mlps], index=["heads", "mlps"])


def test_sentences_on_stability_hold_the_numbers_of_both_parts():
    heads = {"kappa": 0.314159, "kappa_low": 0.2, "kappa_high": 0.42, "overlap_p": 0.0004998}
    mlps = {"kappa": -0.05, "overlap": 4.0, "chance": 4.44, "overlap_p": 0.05}
    assert findings.describe_stability(agreement_of(heads, mlps)) == (
        "For heads, Fleiss' kappa over 3 seeds is **0.31** (95% interval over heads 0.20 to 0.42). "
        "Two seeds share 41.3 heads on average where masks of these sizes drawn at random would "
        f"share 38.6: more than chance explains (permutation test, p = 0.0005; {LEAST}). For MLPs, "
        "Fleiss' kappa over 3 seeds is **-0.05** (95% interval over MLPs 0.10 to 0.40). Two seeds "
        "share 4.0 MLPs on average where masks of these sizes drawn at random would share 4.4: "
        f"not shown to be more than chance explains (permutation test, p = 0.05; {LEAST})."
    )


def test_an_agreement_that_is_not_defined_has_no_interval():
    bounds = {"kappa_low": math.nan, "kappa_high": math.nan}
    undefined = bounds | {"kappa": math.nan, "overlap_p_least": 0.2}
    told = findings.describe_stability(agreement_of(undefined, bounds))
    heads, mlps = told.split(" For MLPs")
    assert "kappa over 3 seeds is not defined. Two" in heads
    assert "would share 38.6: too few to tell whether that is more than chance (perm" in heads
    assert "kappa over 3 seeds is **0.25**. Two" in mlps


def test_sentences_on_super_survivors():
    good, bad = (0.80, 0.82, 0.87), (0.71, 0.70, 0.75)
    cells = {("super", "good", "retrained"): good, ("super", "bad", "retrained"): bad}
    assert findings.describe_super(further(cells, density=0.23)) == (
        f"What survives in all 3 seeds is 23% of the encoder. Retrained it reaches "
        f"**{interval(good)}**, each seed's own good subnetwork 0.900, the full model 0.900 and "
        "the majority class 0.500. Super-survivors less bad ones of their size, retrained, seed by "
        f"seed: {interval(np.subtract(good, bad))}."
    )
    # the biases that belong to no head survive always, so the density is not quite zero
    told = findings.describe_super(further(cells, density=12 * 768 / 85_017_600))
    assert "there are no super-survivors" in told


def test_sentences_on_held_out_examples_are_of_the_halves():
    seen, unseen = np.array([-0.01, -0.02, -0.06]), np.array([-0.05, -0.04, -0.12])
    parts = [
        pd.DataFrame({"method": method, "searched on": place, "seen": a, "unseen": b})
        for method, one, other in (("structured", seen, unseen), ("magnitude", unseen, seen))
        for place, a, b in (("half of dev", one, other), ("all of dev", seen * 0 - 9, math.nan))
    ]
    end = (
        "It holds what the search gains by choosing on the examples that score it, and what the "
        "two halves of dev differ in by chance, which an interval over seeds does not cover."
    )
    assert findings.describe_held_out(pd.concat(parts)).split("\n\n") == [
        f"**{name} pruning:** searched on one half of dev, the good subnetwork loses {one} on that "
        f"half and {other} on the other. The difference is {interval(gap)}. {end}"
        for name, one, other, gap in (
            ("Structured", "0.030", "0.070", seen - unseen),
            ("Magnitude", "0.070", "0.030", unseen - seen),
        )
    ]
    assert "loses 0.000" in findings.describe_held_out(parts[0].assign(seen=0.0))


def test_sentences_on_bad_subnetworks():
    bad, longer, better, rest = (
        0.7 + STEPS,
        [0.80, 0.83, 0.89],
        [0.85, 0.86, 0.90],
        [0.84, 0.8, 0.85],
    )
    cells = {
        ("none", "bilstm", "trained"): [0.655],
        ("structured", "random", "from scratch"): [0.6, 0.62, 0.67],
        ("structured", "bad", "longer"): longer,
        ("disjoint", "good", "retrained"): better,
        ("disjoint", "bad", "retrained"): rest,
    }
    first, second, third = findings.describe_bad(further(cells)).splitlines()
    assert f"retrained: **{interval(bad)}**" in first
    assert "frozen encoder reaches 0.700, a BiLSTM on its embeddings 0.655" in first
    assert "random weights trained as long 0.630" in first
    assert f"Bad less frozen: {interval(bad - 0.7)}." in first
    assert f"by {interval(longer - bad)}." in second
    assert f"reaches {interval(rest)}." in third
    assert f"this one: {interval(np.subtract(better, rest))}." in third


SIZES = {"heads": 0.7, "mlps": 0.62, "union": 0.33, "structured-95": 0.71, "structured-80": 0.29}
SIZES |= {"magnitude-95": 0.52, "magnitude-80": 0.19}


@pytest.fixture
def variants():
    union = {"union": (0.72, 0.6, 0.66)}
    parts = [
        results_of({(method, "good", "pruned"): union.get(method, (0.8,) * 3)}, density=size)
        for method, size in SIZES.items()
    ]
    # what was inverted has a size of its own, which is not the good one's
    parts.append(results_of({("heads", "inverted", "pruned"): (0.5,) * 3}, density=0.99))
    return pd.concat([table(), *parts])


def test_sentences_on_variants(variants):
    told = findings.describe_variants(variants)
    assert "for heads alone leaves 70% of the encoder and for MLPs alone 62%" in told
    assert "together 40% are left" in told
    score = interval((0.72, 0.6, 0.66))
    assert f"leave 33% and score **{score}**, 73% of the full model's 0.900" in told
    assert "the score takes 71% of the encoder and 80% takes 29%" in told
    assert "for single weights 52% and 19%" in told


@pytest.mark.filterwarnings("error")
def test_a_full_model_at_zero_has_no_share(variants):
    """A Matthews correlation of 0 is what a constant predictor has."""
    told = findings.describe_variants(variants.assign(value=0.0))
    assert "**0.000 (the same in all 3 seeds)**, against the full model's 0.000" in told


def test_sentences_on_extensions_are_differences_seed_by_seed():
    cells = {
        ("structured", "rewound"): (0.90, 0.93, 0.91),
        ("magnitude", "rewound"): (0.88, 0.91, 0.95),
        ("iterative", "retrained"): (0.89, 0.95, 0.97),
        ("before", "retrained"): (0.70, 0.65, 0.72),
        ("matched", "pruned"): (0.91, 0.95, 0.90),
        ("matched", "retrained"): (0.92, 0.99, 0.95),
        ("structured", "pruned"): (0.87, 0.88, 0.86),
        ("structured", "retrained"): (0.89, 0.90, 0.93),
        ("magnitude", "retrained"): (0.82, 0.81, 0.87),
    }
    results = results_of({(method, "good", phase): v for (method, phase), v in cells.items()})

    def gap(*names):
        return interval(np.subtract(*(cells[name] for name in names)))

    whole, single = ("structured", "retrained"), ("magnitude", "retrained")
    rewound, iterative, before, matched = findings.describe_extensions(results).splitlines()
    assert rewound.startswith("* Rewound less")
    assert f"heads and MLPs {gap(('structured', 'rewound'), whole)}; weights" in rewound
    assert f"weights {gap(('magnitude', 'rewound'), single)}." in rewound
    assert f"way: {gap(('iterative', 'retrained'), single)}." in iterative
    assert f"way: {gap(('before', 'retrained'), single)}." in before
    assert f"pruned {gap(('matched', 'pruned'), ('structured', 'pruned'))}; ret" in matched
    assert f"retrained {gap(('matched', 'retrained'), whole)}." in matched
