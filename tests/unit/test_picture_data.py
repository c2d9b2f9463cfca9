"""What the pictures that readers act on are told, and the tables beside them."""

import json

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from lotterylib.errors import LotteryError
from lotterylib.importance import Importance
from lotterylib.report import lottery
from lotterylib.report.pictures.film import film_rows, states
from lotterylib.report.pictures.frame import frame, html_table
from lotterylib.report.pictures.hunt import describe_choice, hunt_rows
from lotterylib.report.pictures.words import words
from lotterylib.report.tables import NOTHING
from lotterylib.structured import search_structured
from lotterylib.subnetworks import StructuredSubnetwork


def _data(html):
    return json.loads(BeautifulSoup(html, "html.parser").find("script").string)


def test_no_text_can_end_the_element_that_holds_the_data():
    text = "</script><b>“a” & b</b>"
    html = frame("words", {"text": text}, html_table(text, [text], [[text]]))
    soup = BeautifulSoup(html, "html.parser")
    assert _data(html) == {"text": text}
    assert soup.find("b") is None
    assert [cell.get_text() for cell in soup.find_all("th")] == [text, text]


def test_a_number_that_is_none_is_refused_rather_than_inlined():
    with pytest.raises(ValueError, match="JSON"):
        frame("words", {"value": float("nan")}, "")


def test_words_inline_shares_of_rows_and_open_where_the_kinds_differ_most():
    raw = np.full((2, 3, 2, 2), 0.5)
    weighted = np.full((2, 3, 2, 2), 4.0)
    weighted[1, 2, 1] = 3.0, 9.0
    heads = np.array([[True, False, True], [False, False, True]])
    kept = StructuredSubnetwork(heads, np.array([True, True]))
    other = StructuredSubnetwork(~heads, np.array([True, True]))
    found = {"cola": {"structured": {42: kept, 1: other}, "super": {42: other}}}
    html = words([["[CLS]", "[SEP]"]], [raw], [weighted], found)
    data = _data(html)
    assert data["start"] == [1, 2, 1]
    assert data["sentences"][0]["raw"] == np.full((2, 3, 4), 50).tolist()
    assert data["sentences"][0]["weighted"][1][2] == [50, 50, 25, 75]
    assert data["tasks"] == [
        {
            "title": "CoLA",
            "seeds": [42, 1],
            "kept": [heads.astype(int).tolist(), (~heads).astype(int).tolist()],
        }
    ]
    table = BeautifulSoup(html, "html.parser").find("table")
    assert [cell.get_text() for cell in table.find_all("td")] == ["0.50", "0.25", "0.50", "0.75"]


@pytest.fixture
def table():
    """The sixteen tickets of two layers, worth 9, 8, 2 and 1 points of 100."""
    table = pd.DataFrame({"ticket": range(16)})
    worth = np.array([0.09, 0.08, 0.02, 0.01])
    table["units"] = [ticket.bit_count() for ticket in table["ticket"]]
    table["pruned"] = [1 - (worth * ~_bits(ticket)).sum() for ticket in table["ticket"]]
    table["constant"] = table["units"] == 0
    table["search"] = table["ticket"].map({15: 0, 5: 1}).fillna(-1).astype(int)
    table["retrained"] = table["ticket"].map({3: 0.7, 6: 0.9})
    return table


def _bits(ticket):
    return np.array([ticket >> bit & 1 for bit in range(4)], dtype=bool)


def test_the_summary_names_the_searchs_choice_and_what_beats_it(table):
    rows = [list(row) for row in hunt_rows(table)]
    assert rows[0] == ["4", "1", "1.000", "1.000", "1.000", NOTHING]
    assert rows[2] == ["2", "6", "0.970", "0.900", "0.910", "1"]
    assert [row[0] for row in rows] == ["4", "3", "2", "1", "0"]


def test_the_sentences_say_how_many_have_been_retrained(table):
    pruned, retrained = describe_choice(table).splitlines()
    assert "it scores 0.910. It beats 4 of the 5 other tickets of its size, ties with 0" in pruned
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
        return Importance(worth[0] + lost, worth[1]), 100 - lost

    full = StructuredSubnetwork(np.ones((2, 2), dtype=bool), np.ones(2, dtype=bool))
    steps = search_structured(measure, full)
    shown, last = states(steps), 0
    assert [state["kept"] for state in shown] == [step.kept for step in steps]
    for number, (state, step) in enumerate(zip(shown, steps, strict=True)):
        assert state["from"] == last
        last = number if step.kept else last
        raw = steps[last].importance
        assert state["raw"] == [*raw.heads.ravel(), *raw.mlps]
        assert state["importance"][4:] == [0, 1]
    failed = next(number for number, step in enumerate(steps) if not step.kept)
    assert shown[failed]["raw"] == shown[failed - 1]["raw"]
    rows = film_rows(steps)
    assert len(rows) == len(steps)
    assert rows[1][-2:] == ("3 and 1", "1.2, MLP 1")
