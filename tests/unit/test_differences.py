"""The differences between text and code: the list is whole, and effects are computed by pairs."""

import pandas as pd
import pytest

from lotterylib.errors import LotteryError
from lotterylib.report import paper
from lotterylib.report.differences import (
    NO_OPTION,
    NO_SCORES,
    NOT_RUN,
    describe_differences,
    describe_misprints,
    differences_table,
    folders_in,
    measure,
    options,
    switched,
)
from lotterylib.report.results import COLUMNS, load_results, save_results
from lotterylib.runs.methods import ALL_METHODS, KINDS, PHASES
from lotterylib.runs.presets import PRESETS
from lotterylib.runs.settings import names
from tests.shared import on_record
from tests.small import small_experiment


def row(preset, seed, value, density, phase="pruned", **others):
    cell = {
        "encoder": "minilm",
        "task": "cola",
        "preset": preset,
        "budget": "laptop",
        "seed": seed,
        "method": "magnitude",
        "subnetwork": "bad",
        "phase": phase,
        "draw": 0,
        "metric": "matthews",
        "value": value,
        "reported": True,
        "density": density,
        "examples": 400,
        "train_rows": 1000,
        "epochs": 3,
    }
    return cell | others


def effect_of(topic, rows):
    results = pd.DataFrame(rows, columns=list(COLUMNS))
    return differences_table(results).set_index("topic")["effect"][topic]


def test_the_list_has_every_difference_and_every_option():
    table = paper.differences()
    assert table["number"].tolist() == list(range(1, 26))
    assert table["topic"].is_unique
    wordy = ["topic", "paper", "code", "evidence", "here"]
    assert table[wordy].map(lambda cell: isinstance(cell, str) and len(cell) > 1).all(axis=None)
    assert table["evidence"].str.startswith("sai-prasanna/bert-experiments@f02280f, ").all()
    options = {option for cell in table["option"] for option in cell.split()}
    assert options <= set(names())
    # whatever can be switched alone is in the list, the step of the second phase beside it
    alone = {name.removeprefix("paper+") for name in PRESETS if name.startswith("paper+")}
    assert alone <= options
    assert options - alone <= {"heads_alone_step"}
    for affects in filter(None, table["affects"]):
        method, kind = affects.split()
        assert method in ALL_METHODS
        assert kind in KINDS
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
        row("paper", 1, 0.70, 0.40, "retrained"),
        row("paper+bad_magnitude", 1, 0.40, 0.41),
        row("paper+bad_magnitude", 2, 0.46, 0.53),
        row("paper+bad_magnitude", 1, 0.75, 0.41, "retrained"),
        # none of these has a partner
        row("paper+bad_magnitude", 3, 0.99, 0.99),
        row("paper+bad_magnitude", 1, 0.99, 0.99, metric="accuracy"),
        row("paper+bad_magnitude", 1, 0.99, 0.99, task="rte"),
        row("paper+bad_magnitude", 1, 0.99, 0.99, encoder="mpnet"),
        row("paper+bad_magnitude", 1, 0.99, 0.99, train_rows=500),
        row("paper+bad_magnitude", 1, 0.99, 0.99, epochs=6),
        row("paper+bad_magnitude", 1, 0.99, 0.99, examples=200),
        row("paper+bad_magnitude", 1, 0.99, 0.99, budget="full"),
        row("paper+bad_magnitude", 1, 0.99, 0.99, threshold=0.8),
        row("paper+bad_magnitude", 1, 0.99, 0.99, data="others"),
        row("paper+bad_magnitude", 1, 0.99, 0.99, reported=False),
        row("paper", 1, 0.99, 0.99, reported=False),
        # and these are about something else
        row("paper+importance", 1, 0.99, 0.99),
        row("paper+bad_magnitude", 1, 0.99, 0.99, subnetwork="good"),
        row("paper", 1, 0.10, 0.10, subnetwork="good"),
        row("paper+bad_magnitude", 1, 0.99, 0.99, phase="longer"),
        row("paper", 1, 0.10, 0.10, phase="longer"),
    ]
    # pruned: -0.10 and -0.14, 1 and 3 points; retrained: +0.05, 1 point
    told = effect_of("bad subnetworks of weights", rows)
    assert told == "size +1.5 points, pruned -0.120, retrained +0.050 (1 task, 2 seeds)"
    assert effect_of("importance", rows) == NOT_RUN


def test_pages_of_other_presets_are_read_beside_those_of_the_paper(tmp_path):
    rows = {"pages": row("paper", 1, 0.50, 0.40)}
    rows["variants/bad"] = row("paper+bad_magnitude", 1, 0.40, 0.41)
    rows["variants/by importance"] = row("paper+importance", 1, 0.99, 0.99)
    for place, each in rows.items():
        folder = tmp_path / place / "minilm" / "cola"
        each["request"] = on_record(folder, preset=each["preset"])
        save_results(pd.DataFrame([each], columns=list(COLUMNS)), folder / "results.csv")
    folders = folders_in(tmp_path / "variants")
    assert [folder.name for folder in folders] == ["bad", "by importance"]
    table = load_results(tmp_path / "pages", *folders)
    assert table["preset"].tolist() == ["paper", "paper+bad_magnitude", "paper+importance"]
    effects = differences_table(table).set_index("topic")["effect"]
    assert effects["bad subnetworks of weights"] == (
        "size +1.0 points, pruned -0.100 (1 task, 1 seed)"
    )
    assert folders_in(tmp_path / "nowhere") == []


def test_a_difference_reads_as_an_entry_of_a_list():
    table = differences_table(pd.DataFrame(columns=list(COLUMNS)))
    lines = describe_differences(table).split("\n")
    assert len(lines) == 25
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
    assert set(options().values()) <= {(m, k) for m in ALL_METHODS for k in KINDS}
    mine = small_experiment(tmp_path)
    found = switched(mine)
    assert set(found) == set(options()) - {"stop_metric"}  # of a search on STS-B
    assert set(switched(small_experiment(tmp_path, task="similarity"))) == set(options())
    for option, (other, scored) in found.items():
        assert other.settings.how.startswith(f"paper+{option}, magnitude_max_steps")
        changed = {name for name, value in mine.settings if getattr(other.settings, name) != value}
        assert changed == {"preset", option}
        assert [phase for _, _, phase in scored] == ["pruned", "retrained"]
    assert set(switched(mine, ["importance", "stop_metric"])) == {"importance"}


def test_effects_are_measured_without_a_run_of_all_pages(tmp_path):
    mine, variants = small_experiment(tmp_path / "runs"), tmp_path / "variants"
    only = ["empty_layer_bias", "random_structured"]
    assert measure([mine], variants, only, jobs=1) == []
    found = load_results(*folders_in(variants)).query("reported")
    assert [path.name for path in folders_in(variants)] == only
    assert found["preset"].str.split("[+,]").str[1].tolist() == [
        each for each in only for _ in PHASES
    ]
    assert found["subnetwork"].tolist() == ["good", "good", "random", "random"]
    assert found["phase"].tolist() == [*PHASES, *PHASES]
    other = small_experiment(tmp_path / "runs", seeds=[5])
    with pytest.raises(LotteryError, match="another request"):
        measure([other], variants, only, jobs=1)
