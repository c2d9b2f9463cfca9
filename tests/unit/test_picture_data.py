"""What the pictures that readers act on are told, and the tables beside them."""

import numpy as np
import pandas as pd
import pytest

from lotterylib.errors import LotteryError
from lotterylib.importance import Importance
from lotterylib.report import lottery, pictures
from lotterylib.structured import search_structured
from lotterylib.subnetworks import StructuredSubnetwork


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
    rows = [list(row) for row in pictures.lottery_rows(table)]
    assert rows[0] == ["4", "1", "1.000", "1.000", "1.000", ""]
    assert rows[2] == ["2", "6", "0.970", "0.900", "0.910", "1"]
    assert [row[0] for row in rows] == ["4", "3", "2", "1", "0"]


def test_the_sentences_say_whether_it_is_a_sample(table):
    pruned, retrained = pictures.describe_hunt(table).splitlines()
    assert "of all 6 tickets of 2 units, 1 score higher than the search's choice (0.910)" in pruned
    assert (
        "has not been retrained yet. The scores of the 2 of 6 that are retrained so far"
        in retrained
    )
    table.loc[5, "retrained"] = 0.8
    told = pictures.describe_hunt(table)
    assert "of the 3 of 6 that are retrained so far, 1 score higher" in told
    table["retrained"] = table["pruned"]
    assert "so far" not in pictures.describe_hunt(table)
    table["search"] = -1
    assert pictures.describe_hunt(table) == "The search passes by no ticket of half the units."


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
    (shown,) = pictures.film_data({3: steps}, "accuracy", 0.9)["searches"]
    states = shown["states"]
    assert [state["kept"] for state in states] == [step.kept for step in steps]
    last = 0
    for number, (state, step) in enumerate(zip(states, steps, strict=True)):
        assert state["from"] == last
        last = number if step.kept else last
        raw = steps[last].importance
        assert state["raw"] == [*raw.heads.ravel(), *raw.mlps]
        assert state["importance"][4:] == [0, 1]
    failed = next(number for number, step in enumerate(steps) if not step.kept)
    assert states[failed]["raw"] == states[failed - 1]["raw"]
    rows = pictures.film_rows(steps)
    assert len(rows) == len(steps)
    assert rows[1][-2:] == ("3 and 1", "1.2, MLP 1")
