"""The differences between text and code: the list is whole, and effects are computed by pairs."""

import pandas as pd
import pytest

from lotterylib.errors import LotteryError
from lotterylib.report import paper
from lotterylib.report.differences import (
    NO_OPTION,
    NO_SCORES,
    NOT_RUN,
    choices,
    describe_differences,
    describe_misprints,
    differences_table,
    folders_in,
    measure_effects,
    switched,
)
from lotterylib.report.results import COLUMNS, load_results, save_results
from lotterylib.runs.methods import ALL_METHODS, KINDS, PHASES
from lotterylib.runs.presets import PRESETS
from lotterylib.runs.settings import names
from tests.shared import on_record
from tests.small import small_experiment


def row(preset, seed, value, density, phase="pruned", **others):
    cell = {"encoder": "minilm", "task": "cola", "preset": preset, "budget": "laptop", "seed": seed}
    cell |= {"method": "magnitude", "subnetwork": "bad", "phase": phase, "draw": 0}
    cell |= {"metric": "matthews", "value": value, "reported": True, "density": density}
    return cell | {"examples": 400, "train_rows": 1000, "epochs": 3} | others


def effect_of(topic, rows):
    results = pd.DataFrame(rows, columns=list(COLUMNS))
    return differences_table(results).set_index("topic")["effect"][topic]


def test_the_list_has_every_difference_and_every_option():
    table = paper.differences()
    assert table["number"].tolist() == list(range(1, 29))
    assert table["topic"].is_unique
    assert table["evidence"].str.startswith("sai-prasanna/bert-experiments@f02280f, ").all()
    options = {option for cell in table["option"] for option in cell.split()}
    assert options <= set(names())
    # whatever can be switched alone is in the list, the step of the second phase beside it
    alone = {name.removeprefix("paper+") for name in PRESETS if name.startswith("paper+")}
    assert alone <= options <= {*alone, "heads_alone_step"}
    about = [affects.split() for affects in table["affects"] if affects]
    assert all(method in ALL_METHODS and kind in KINDS for method, kind in about)
    assert not (table["affects"].ne("") & table["option"].eq("")).any()


def test_without_runs_nothing_is_claimed():
    table = differences_table(pd.DataFrame(columns=list(COLUMNS))).set_index("number")
    assert table["effect"][3] == NOT_RUN
    assert table["effect"][2] == NO_OPTION
    assert table["effect"][17] == NO_SCORES
    assert table["effect"][1] == f"magnitude_step: {NOT_RUN}; magnitude_of: {NOT_RUN}"
    assert set(table["effect"][table["option"] == ""]) == {NO_OPTION}


def test_an_effect_is_the_mean_difference_of_matched_runs():
    rows = [
        row("paper", 1, 0.50, 0.40),
        row("paper", 2, 0.60, 0.50),
        row("paper", 3, 0.60, 0.50),
        row("paper", 1, 0.70, 0.40, "retrained"),
        row("paper+bad_magnitude", 1, 0.40, 0.41),
        row("paper+bad_magnitude", 2, 0.46, 0.53),
        row("paper+bad_magnitude", 3, 0.60, 0.52),
        row("paper+bad_magnitude", 1, 0.75, 0.41, "retrained"),
        row("paper+bad_magnitude", 4, 0.99, 0.99),  # neither this one nor the next has a partner
        row("paper", 1, 0.99, 0.99, reported=False),
        # and these are about something else
        row("paper+importance", 1, 0.99, 0.99),
        row("paper", 1, 0.10, 0.10, subnetwork="good"),
        row("paper", 1, 0.10, 0.10, phase="longer"),
    ]
    rows += [
        row("paper+bad_magnitude", 1, 0.99, 0.99, **{name: other})
        for name, other in {
            **{"metric": "accuracy", "task": "rte", "encoder": "mpnet", "train_rows": 500},
            **{"epochs": 6, "examples": 200, "budget": "full", "threshold": 0.8, "data": "others"},
            **{"reported": False, "subnetwork": "good", "phase": "longer"},
        }.items()
    ]
    # pruned: -0.10, -0.14 and 0; retrained: +0.05; by seed 1, 3 and 2 points
    told = effect_of("bad subnetworks of weights", rows)
    assert told == (
        "size +2.0 [+1.0, +3.0] points of the encoder, score pruned -0.080 [-0.140, +0.000], score "
        "retrained +0.050 (the code's way less the text's; CoLA, 3 seeds; in brackets the least "
        "and the most)"
    )
    assert effect_of("importance", rows) == NOT_RUN


def test_pages_of_other_presets_are_read_beside_those_of_the_paper(tmp_path):
    presets = {"pages": "paper", "variants/bad": "paper+bad_magnitude", "variants/on": "paper+x"}
    for place, preset in presets.items():
        folder = tmp_path / place / "minilm" / "cola"
        each = row(preset, 1, 0.50, 0.40, request=on_record(folder, preset=preset))
        save_results(pd.DataFrame([each], columns=list(COLUMNS)), folder / "results.csv")
    folders = folders_in(tmp_path / "variants")
    assert [folder.name for folder in folders] == ["bad", "on"]
    table = load_results(tmp_path / "pages", *folders)
    assert table["preset"].tolist() == list(presets.values())
    assert folders_in(tmp_path / "nowhere") == []


def test_a_difference_reads_as_an_entry_of_a_list():
    table = differences_table(pd.DataFrame(columns=list(COLUMNS)))
    lines = describe_differences(table).split("\n")
    assert len(lines) == 28
    assert lines[2] == (
        "3. **Bad subnetworks of weights.** Paper: drawn from what was pruned, filled up with "
        "others. Code: the weights of smallest magnitude, without a draw. Here: drawn, as the "
        "text. Switch: `paper+bad_magnitude`. Effect: not run yet. *Evidence: "
        "src/find_global_weight_mask.py, lines 26 to 66 and 422.*"
    )
    assert "Switch" not in lines[11]
    for line in lines:  # only presets that there are are named as presets
        for name in line.split("`")[1::2]:
            assert name in PRESETS or name in set(names())


def test_misprints_are_listed_and_procedures_left_to_the_differences():
    text = describe_misprints()
    for entry in paper.misprints().itertuples():
        assert (entry.why in text) == (entry.kind != "procedure")


def test_a_choice_is_switched_where_it_changes_a_score(tmp_path):
    assert set(choices().values()) <= {(m, k) for m in ALL_METHODS for k in KINDS}
    mine = small_experiment(tmp_path)
    found = switched(mine)
    assert set(found) == set(choices()) - {"stop_metric"}  # of a search on STS-B
    assert set(switched(small_experiment(tmp_path, task="similarity"))) == set(choices())
    for option, (other, scored) in found.items():
        assert other.settings.how.startswith(f"paper+{option}, magnitude_max_steps")
        changed = {name for name, value in mine.settings if getattr(other.settings, name) != value}
        assert changed == {"preset", option}
        assert [phase for _, _, phase in scored] == ["pruned", "retrained"]
    assert set(switched(mine, ["importance", "stop_metric"])) == {"importance"}


def test_effects_are_measured_without_a_run_of_all_pages(tmp_path):
    mine, variants = small_experiment(tmp_path / "runs"), tmp_path / "variants"
    only = ["empty_layer_bias", "random_structured"]
    assert measure_effects([mine], variants, only, jobs=1) == []
    found = load_results(*folders_in(variants)).query("reported")
    switches = found["preset"].str.partition(",")[0].str.removeprefix("paper+")
    told = set(zip(switches, found["method"], found["subnetwork"], found["phase"], strict=True))
    both = {(option, *choices()[option]) for option in only}
    both |= {("paper", *choices()[option]) for option in only}
    assert told == {(*each, phase) for each in both for phase in PHASES}
    effect = differences_table(found.assign(preset=found["preset"].str.partition(",")[0]))
    measured = effect[effect["effect"].str.startswith("size ")]
    assert set(measured["option"]) == set(only)
    assert measure_effects([mine], variants, ["embeddings"], jobs=1) == []  # keeps what was there
    more = load_results(*folders_in(variants)).query("reported")
    assert more["preset"].value_counts()[found["preset"].unique()].tolist() == [2, 4, 2]
    assert len(more) == 10
    other = small_experiment(tmp_path / "runs", seeds=[5])
    with pytest.raises(LotteryError, match="another request"):
        measure_effects([other], variants, only, jobs=1)
