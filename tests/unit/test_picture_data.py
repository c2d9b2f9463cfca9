"""What the pictures that readers act on are told, and the tables beside them."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from lotterylib.errors import LotteryError
from lotterylib.importance import Importance
from lotterylib.report import lottery, paper
from lotterylib.report.pictures import frame
from lotterylib.report.pictures.comparison import comparison
from lotterylib.report.pictures.film import film, film_rows, states
from lotterylib.report.pictures.hunt import describe_choice, hunt
from lotterylib.report.pictures.words import words
from lotterylib.report.results import load_results
from lotterylib.report.tables import NOTHING
from lotterylib.structured import search_structured
from lotterylib.subnetworks import StructuredSubnetwork, full_subnetwork
from tests.results import tickets_of


def _data(html):
    return json.loads(BeautifulSoup(html, "html.parser").find("script").string)


def _table(html):
    """The caption of the table beside a picture, its header and its rows."""
    lines = BeautifulSoup(html, "html.parser").find_all(["caption", "tr"])
    return [[cell.get_text() for cell in line.find_all(["th", "td"]) or [line]] for line in lines]


def test_the_comparison_says_what_the_tables_and_the_paper_say(pages):
    results = load_results(pages).replace({"metric": {"accuracy": "matthews"}})
    others = results.assign(metric="accuracy", reported=False, value=0.0)
    both = pd.concat([others, results]).assign(threshold=0.95, overlap_with_good=0.25)
    html = comparison(both, pages / "minilm")
    assert _table(html)[1:4] == [
        ["Task", "Subnetworks of", "Full model", "Good", "Random", "Bad"],
        ["CoLA", "heads and MLPs, pruned", "0.900", "0.900", "0.800", "0.799"],
        ["CoLA", "heads and MLPs, retrained", "0.900", "0.900", "0.800", "0.799"],
    ]
    cola, _, entailment = _data(html)["tasks"]
    assert (cola["metric"], cola["seeds"]) == ("Matthews correlation", "1, 2, 42")
    assert [(line["name"], line["told"]) for line in cola["lines"]] == [
        ("full model", "0.900"),
        ("95% of it", "0.855"),
        ("linear layer on the frozen encoder", "0.600"),
        ("majority class", "0.500"),
    ]
    _, good, _, bad = cola["settings"][1]["rows"]
    assert (good["way"], good["shared"], good["interval"]) == ("100%", NOTHING, NOTHING)
    assert (bad["way"], bad["shared"], bad["interval"]) == ("75%", "25%", "0.797 to 0.801")
    assert (bad["runs"], bad["bounds"]) == ("0.800, 0.799, 0.798", [0.7965, 0.8015])
    known = paper.scores().query("task == 'cola'").set_index(["method", "subnetwork", "phase"])
    mean, sd = known.loc[("structured", "bad", "retrained"), ["mean", "sd"]]
    way = mean / known["mean"]["none", "full", "fine-tuned"]  # the majority class has 0
    assert bad["paper"] == f"{mean:.3f} ± {sd:.3f} ({way:.0%})"
    assert bad["theirs"] == [mean, sd]
    assert {row["paper"] for each in entailment["settings"] for row in each["rows"]} == {NOTHING}


def test_no_text_can_end_the_element_that_holds_the_data():
    text = "</script><b>“a” & b</b>"
    html = frame("words", {"text": text}, text, [text], [[text]])
    soup = BeautifulSoup(html, "html.parser")
    assert _data(html) == {"text": text}
    assert soup.find("b") is None
    assert [cell.get_text() for cell in soup.find_all("th")] == [text, text]


def test_a_number_that_is_none_is_refused_rather_than_inlined():
    with pytest.raises(ValueError, match="JSON"):
        frame("words", {"value": float("nan")}, "", [], [])


def test_words_inline_shares_of_rows_and_open_where_the_kinds_differ_most():
    raw = np.full((2, 3, 2, 2), 0.5)
    weighted = np.full((2, 3, 2, 2), 4.0)
    weighted[1, 2, 1] = 3.0, 9.0
    heads = np.array([[True, False, True], [False, False, True]])
    kept, other = (StructuredSubnetwork(each, np.array([True, True])) for each in (heads, ~heads))
    found = {"cola": {"structured": {42: kept, 1: other}, "super": {42: other}}}
    html = words([["[CLS]", "[SEP]"]], [raw], [weighted], found)
    data = _data(html)
    assert data["start"] == [1, 2, 1]
    assert data["sentences"][0]["raw"] == np.full((2, 3, 4), 50).tolist()
    assert data["sentences"][0]["weighted"][1][2] == [50, 50, 25, 75]
    shown = [heads.astype(int).tolist(), (~heads).astype(int).tolist()]
    assert data["tasks"] == [{"title": "CoLA", "seeds": [42, 1], "kept": shown}]
    caption, header, *rows = _table(html)
    assert caption == ["Layer 2, head 3: where “[SEP]” attends"]
    assert header == ["Token", "Raw", "Norm-weighted"]
    assert rows == [["[CLS]", "0.50", "0.25"], ["[SEP]", "0.50", "0.75"]]


@pytest.fixture
def table():
    """The sixteen tickets of two layers, worth 9, 8, 2 and 0.6 points of 100."""
    bits = np.arange(16)[:, None] >> np.arange(4) & 1
    pruned = 1 - (1 - bits) @ [0.09, 0.08, 0.02, 0.006]
    return tickets_of(pruned, {3: 0.7, 6: 0.9}, constant=[0], way=[15, 5])


def test_the_hunt_names_the_searchs_choice_and_what_beats_it(table):
    html = hunt(table, "matthews", 0.9)
    _, _, *rows = _table(html)
    assert rows[0] == ["4", "1", "1.000", "1.000", "1.000", NOTHING]
    assert rows[1] == ["3", "4", "0.994", "0.950", NOTHING, NOTHING]
    assert rows[2] == ["2", "6", "0.974", "0.902", "0.914", "1"]
    assert [row[0] for row in rows] == ["4", "3", "2", "1", "0"]
    data = _data(html)
    assert (data["layers"], data["path"], data["retrained"]) == (2, [15, 5], {"3": 0.7, "6": 0.9})
    assert data["constant"] == "1" + 15 * "0"
    assert data["pruned"] == table["pruned"].round(5).tolist()


def test_the_sentences_say_how_many_have_been_retrained(table):
    pruned, retrained = describe_choice(table).splitlines()
    assert "it scores 0.914. It beats 4 of the 5 other tickets of its size, ties with 0" in pruned
    assert "it has not been retrained yet. The 2 tickets of its size with a score so" in retrained
    assert "far have 0.700 to 0.900" in retrained
    table.loc[5, "retrained"] = 0.8
    told = describe_choice(table)
    assert "It beats 1 of the 2 other tickets of its size with a score so far" in told
    table["retrained"] = table["pruned"]
    assert "so far" not in describe_choice(table)
    table["search"] = -1
    assert "the search passes by no ticket of half the units" in describe_choice(table)


def test_a_table_is_read_back_and_a_missing_one_is_a_sentence(table, tmp_path):
    table.rename(columns={"retrained": "retrained_7"}).to_csv(tmp_path / "tickets.csv", index=False)
    read = lottery.load_table(tmp_path)
    pd.testing.assert_frame_equal(read, table, check_dtype=False)
    with pytest.raises(
        LotteryError, match=r"holds no tickets\.csv: 'lottery tickets' publishes it"
    ):
        lottery.load_table(tmp_path / "none")


def test_the_film_shows_after_a_failure_the_importance_that_decides_the_next_step():
    worth = np.array([[6.0, 1.0], [3.0, 2.0]]), np.array([4.0, 8.0])

    def measure(kept):
        lost = worth[0][~kept.heads].sum() + worth[1][~kept.mlps].sum()
        return Importance(worth[0] + lost, worth[1]), float(100 - lost)

    steps = search_structured(measure, full_subnetwork(SimpleNamespace(layers=2, heads=2)))
    shown, rows = states(steps), film_rows(steps)
    assert [state["kept"] for state in shown] == [step.kept for step in steps]
    assert not (steps[-2].kept and steps[-1].kept)
    left, last = [step.subnetwork.heads.sum() + step.subnetwork.mlps.sum() for step in steps], 0
    for number, (state, step, row) in enumerate(zip(shown, steps, rows, strict=True)):
        gone = [each for each in row[-1].split(", ") if each != "nothing"]
        assert len(gone) == left[last] - left[number]
        assert state["from"] == last
        last = number if step.kept else last
        raw = steps[last].importance
        assert state["raw"] == [*raw.heads.ravel(), *raw.mlps]
        assert state["importance"][4:] == [0, 1]
    assert rows[1] == ("1", "together", "95.000", "95%", "kept", "3 and 1", "1.2, MLP 1")
    html = film({7: steps, 3: steps[:1]}, "matthews", 0.9)
    data = _data(html)
    assert (data["metric"], data["threshold"]) == ("Matthews correlation", 0.9)
    lengths = {each["seed"]: len(each["states"]) for each in data["searches"]}
    assert lengths == {7: len(steps), 3: 1}
    assert _table(html)[0] == ["The states of seed 7; closed heads as layer.head"]
