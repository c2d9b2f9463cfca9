"""What pages hand to the scripts of their pictures."""

import json

import numpy as np
import pytest
from bs4 import BeautifulSoup

from lotterylib.report.interactive import html_table, picture, words
from lotterylib.subnetworks import StructuredSubnetwork


def _data(html):
    return json.loads(BeautifulSoup(html, "html.parser").find("script").string)


def test_no_text_can_end_the_element_that_holds_the_data():
    text = "</script><b>“a” & b</b>"
    html = picture("words", {"text": text}, html_table(text, [text], [[text]]))
    soup = BeautifulSoup(html, "html.parser")
    assert _data(html) == {"text": text}
    assert soup.find("b") is None
    assert [cell.get_text() for cell in soup.find_all("th")] == [text, text]


def test_a_number_that_is_none_is_refused_rather_than_inlined():
    with pytest.raises(ValueError, match="JSON"):
        picture("words", {"value": float("nan")}, "")


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
