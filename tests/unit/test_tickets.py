"""The whole lottery: scoring all tickets at once equals scoring each, and so does retraining."""

import copy
import itertools

import numpy as np
import pandas as pd
import pytest
import torch

from lotterylib.cli import main
from lotterylib.encoder import layers_of, shape_of
from lotterylib.fast.gpu import set_precision
from lotterylib.gates import gated, remove
from lotterylib.report import figures
from lotterylib.report import lottery as told
from lotterylib.runs import lottery
from lotterylib.scoring import evaluate, example_losses
from lotterylib.tasks import find_task
from lotterylib.tickets import score_all, search_tickets, subnetwork_of, tickets_of_size, units_of
from tests.results import tickets_of
from tests.small import small_experiment

TASK = find_task("similarity")


def test_a_ticket_names_its_units(tiny_model):
    shape = shape_of(tiny_model())
    kept = subnetwork_of(0b100_011, shape)
    assert kept.heads.all(1).tolist() == kept.heads.any(1).tolist() == [True, True, False]
    assert kept.mlps.tolist() == [False, False, True]


def test_all_tickets_of_half_size_are_counted():
    assert len(tickets_of_size(6, 6)) == 924
    assert sum(len(tickets_of_size(3, units)) for units in range(7)) == 64
    assert all(ticket.bit_count() == 4 for ticket in tickets_of_size(3, 4))
    order = lottery.tickets_in_order(6)
    assert sorted(order) == tickets_of_size(6, 6) != order == lottery.tickets_in_order(6)


@pytest.mark.parametrize(
    ("precision", "dropped"), [("float32", False), ("float32", True), ("bfloat16", False)]
)
def test_scores_of_all_equal_those_of_each(precision, dropped, tiny_model, encoded):
    model, split = tiny_model("similarity"), encoded("similarity", 70)
    set_precision(model, precision)
    with torch.no_grad():
        for layer in layers_of(model):
            layer.output.weight.mul_(20)
            layer.mlp_out.weight.mul_(20)
            layer.output.bias.add_(0.5)
    before = evaluate(model, split, TASK)
    found = score_all(model, split, TASK, drop_empty_bias=dropped)
    assert evaluate(model, split, TASK) == before
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    for ticket, score in enumerate(found):
        kept = subnetwork_of(ticket, shape_of(model))
        alone = evaluate(remove(copy.deepcopy(model), kept, dropped), split, TASK)
        np.testing.assert_allclose(score.predictions, alone.predictions, atol=2e-5)
    assert len({score.predictions for score in found}) == 64


def test_the_search_prunes_the_blocks_whose_gates_matter_least(tiny_model, encoded):
    model, split = tiny_model("similarity"), encoded("similarity", 20)
    states = search_tickets(model, split, TASK)
    assert [state.ticket.bit_count() for state in states] == [6, 4, 2]
    for before, after in itertools.pairwise(states):
        for start, importance in ((0, before.attention), (3, before.mlps)):
            left = [layer for layer in range(3) if before.ticket >> (start + layer) & 1]
            gone = [layer for layer in left if not after.ticket >> (start + layer) & 1]
            assert gone == [min(left, key=importance.__getitem__)]
    one_by_one = np.zeros((2, 3))
    for row in range(len(split)):
        inputs, labels = split.batch([row], torch.device("cpu"))
        gates = torch.ones(2, 3, requires_grad=True)
        with gated(model, gates[0][:, None].expand(3, 4), gates[1]):
            loss = example_losses(model(**inputs).logits, labels, TASK).sum()
        one_by_one += torch.autograd.grad(loss, gates)[0].abs().numpy() / len(split)
    np.testing.assert_allclose([states[0].attention, states[0].mlps], one_by_one, rtol=1e-4)
    full = evaluate(model, split, TASK).metrics["pearson"]
    assert states[0].score == pytest.approx(full, abs=1e-5)


def test_a_retrained_ticket_is_a_retrained_subnetwork(tmp_path, monkeypatch):
    keys = set()
    for changes in ({}, {"preset": "official"}, {"embeddings": "kept"}):
        made = small_experiment(tmp_path, max_length=32, **changes)
        kept = subnetwork_of(0b011_100, made.shape)
        score = lottery.retrained(made, 3, 0b011_100)
        keys.add(lottery.retrained_key(made, 3, 0b011_100).digest)
        monkeypatch.setattr(made, "subnetwork", lambda *_, kept=kept, **__: kept)
        assert score == made.score(3, "structured", "good", "retrained")
    assert len(keys) == 3


def test_the_table_has_every_ticket_and_what_is_known_of_it(tmp_path):
    made = small_experiment(tmp_path, max_length=32)
    known = {ticket: lottery.retrained(made, 3, ticket) for ticket in (7, 56)}
    table = lottery.ticket_table(made).set_index("ticket")
    assert len(table) == 64
    assert table["retrained_3"].dropna().to_dict() == {
        ticket: score.metrics["matthews"] for ticket, score in known.items()
    }
    path = [state["ticket"] for state in lottery.searched(made, 3)]
    assert table.loc[path, "search"].tolist() == [0, 1, 2]
    assert (table["search"] >= 0).sum() == 3
    assert table.loc[63, "pruned"] == pytest.approx(made.full_score(3).metrics["matthews"])


def test_the_command_takes_up_where_it_stopped(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("lotterylib.report.pages.render", lambda *_: None)
    place = tmp_path / "pages" / "tiny" / "acceptability" / "tickets.csv"

    def run(*options):
        asked = ["acceptability", "--encoder", "tiny", "--budget", "smoke", "--seeds", "3"]
        where = ["--store", str(tmp_path / "runs"), "--pages", str(tmp_path / "pages")]
        status = main(["tickets", *asked, *where, "--jobs", "1", *options])
        if status or "--no-pages" in options:
            return status
        table = pd.read_csv(place)
        assert len(table) == 64
        return set(table.loc[table["retrained_3"].notna(), "ticket"])

    assert run("--only", "7,64") == 2
    assert "There is no ticket 64: those of 3 layers end at 63." in capsys.readouterr().err
    assert run("--only", "7", "--no-pages") == 0
    assert not (tmp_path / "pages").exists()
    assert run("--only", "7,56") == {7, 56}
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/*/*/*/*")}
    assert run("--first", "2") == {7, 56, *lottery.tickets_in_order(3)[:2]}
    assert all(path.stat().st_mtime_ns == since for path, since in before.items())


# What is told of them, on the sixteen tickets of two layers

MARKS = told.Marks(full=0.9, frozen=0.7, majority=0.5, half=0b01_10, good=0b11_10, threshold=0.9)


@pytest.fixture
def table():
    pruned = {3: 0.7, 6: 0.7, 10: 0.83, 7: 0.815, 11: 0.82, 14: 0.85, 15: 0.9}
    retrained = {3: 0.85, 5: 0.55, 6: 0.58, 9: 0.6, 10: 0.72, 12: 0.5}
    scores = [pruned.get(ticket, 0.5) for ticket in range(16)]
    return tickets_of(scores, retrained, constant=[0, 1, 4, 5, 8, 9, 12, 2])


def test_units_are_read_from_the_bits():
    attention, mlps = units_of([0b10_01], 2)[0]
    assert attention.tolist() == [True, False]
    assert mlps.tolist() == [False, True]
    tickets = [0, 0b11_00, 0b00_01, 0b01_10, 0b10_11]
    assert told.highest(tickets, 2).tolist() == [0, 0, 1, 2, 2]
    assert told.highest(tickets, 2, part=1).tolist() == [0, 2, 0, 1, 2]


def test_a_ticket_stands_among_the_others_of_its_size(table):
    assert told.standing(table, 6, "pruned") == told.Standing(0.7, 5, 1, 1, 3, 0.83)
    assert told.standing(table, 6, "retrained") == told.Standing(0.58, 5, 3, 0, 2, 0.85)
    table.loc[6, "retrained"] = np.nan
    assert told.standing(table, 6, "retrained") is None
    assert told.standing(table, 9, "retrained").others == 4
    assert told.standing(table, None, "pruned") is None


def test_losers_are_counted_by_the_highest_attention_block_and_by_rules(table):
    lost = told.losers(table, MARKS)
    assert list(lost.index[lost]) == [5, 6, 9, 12]  # 9 is just on the line
    found = told.losers_by_highest(table, MARKS)
    assert found.index.tolist() == [0, 1, 2]
    assert found[["tickets", "losers"]].values.tolist() == [[1, 1], [2, 2], [3, 1]]
    assert found["share"].tolist() == pytest.approx([1, 1, 1 / 3])
    assert told.rules(table, MARKS).values.tolist() == [
        ["an attention block in the last layer", 0, 1, 0, 1],
        ["at least 2 attention blocks", 0, 0, 1, 1],
        ["an attention block", 0, 3, 0, 3],
        ["an MLP in the last layer", 1, 2, 1, 3],
        ["at least 2 MLPs", 1, 1, 2, 3],
        ["an MLP", 1, 4, 1, 5],
    ]


def test_the_best_and_the_worst_are_counted_by_unit(table):
    best, worst = told.units_of_extremes(table, "retrained", 0.2)  # 3 and 10; 12 and 5
    assert best.tolist() == [[0.5, 1.0], [0.0, 0.5]]
    assert worst.tolist() == [[0.5, 0.0], [1.0, 0.5]]
    _, worst = told.units_of_extremes(table, "pruned", 0.1)  # 5, 9 and 12 alike
    assert worst == pytest.approx(np.array([[2 / 3, 0], [2 / 3, 2 / 3]]))


def test_the_sentences_are_computed_from_the_table(table):
    assert told.describe_pruned(table, MARKS) == (
        "* **The search's ticket as pruned:** it scores 0.700. It beats 3 of the 5 other tickets "
        "of its size, ties with 1 and loses to 1: 70.0% are beaten, ties counted half. The "
        "best of the others scores 0.830.\n"
        "* **Small tickets:** 5 of all 16 tickets keep 90% of the full model's 0.900. The smallest "
        "of them has 2 units; the search stops at 3 units.\n"
        "* **The unit that is missed most:** without the attention block of layer 2, 87.5% of all "
        "tickets give the same answer everywhere; with it, 12.5% do."
    )
    assert told.describe_retrained(table, MARKS) == (
        "* **The search's ticket retrained:** it scores 0.580. It beats 2 of the 5 other tickets "
        "of its size, ties with 0 and loses to 3: 40.0% are beaten, ties counted half. The "
        "best of the others scores 0.850.\n"
        "* **Losers:** 4 of 6 retrained tickets (67%) end at or below 0.600, 50% of the way from "
        "the majority class (0.500) to a linear layer on the frozen encoder (0.700). 2 end above "
        "that layer.\n"
        "* **What losers lack:** of 6 simple rules, the one with the fewest exceptions is that a "
        "ticket wins if it has an attention block in the last layer. Its exceptions are 1 loser "
        "with it and 0 winners without. The best rule on MLPs (an MLP in the last layer) has 3 "
        "exceptions, and that all tickets win has 4.\n"
        "* **Pruned and retrained:** the two scores of 6 tickets have a rank correlation of 0.68."
    )
    assert told.describe_progress(table) == "All 6 tickets of half the units have been retrained."


def test_a_part_of_the_tickets_is_told_as_a_sample(table):
    assert lottery.tickets_in_order(2) == [9, 3, 10, 12, 5, 6]
    table.loc[5, "retrained"] = np.nan
    # Wilson's interval for 2 of 4: somebody chose ticket 6, which lost
    text = told.describe_retrained(table, MARKS)
    assert "3 of 5 retrained tickets (60%; of all, by a 95% interval, 15% to 85%)" in text
    said = told.describe_progress(table)
    assert said.startswith("So far 5 of 6 tickets")
    assert "4 in a random order and 1 chosen" in said
    table.loc[6, "retrained"] = np.nan
    text = told.describe_retrained(table, MARKS)
    assert "it has not been retrained yet. The 4 tickets of its size with a score so" in text
    assert "2 of 4 retrained tickets (50%; of all, by a 95% interval, 15% to 85%)" in text
    table["retrained"] = np.nan
    assert told.describe_retrained(table, MARKS) == "Too few tickets have been retrained yet."


def test_another_seed_is_held_against_the_first(table):
    assert told.describe_other_seeds(table) == ""
    # of ticket 3 only the first seed knows; 6 wins and 9 loses with the other; 10 is best with both
    table["retrained_7"] = table["ticket"].map({5: 0.55, 6: 0.8, 9: 0.6, 10: 0.9, 12: 0.51})
    line = (
        "* **Seed 7:** 5 tickets of half the units were retrained with it too. The scores of the "
        "two seeds have a rank correlation of 0.90. The best tenth with the first seed (1) and "
        "with this one (1) have 1 ticket in common; chance would give 0.2."
    )
    assert told.describe_other_seeds(table) == line
    lost = f"{line} 3 lose with both seeds, 1 with one only."
    assert told.describe_other_seeds(table, MARKS.losing) == lost
    assert told.describe_retrained(table, MARKS).endswith(f"\n{lost}")
    table["retrained_8"] = table["retrained_7"].where(table["ticket"] > 9)  # two tickets only
    assert told.describe_other_seeds(table) == line


def test_figures_stand_at_the_scores(table):
    scores = {phase: told.scores_of_halves(table, phase) for phase in ("pruned", "retrained")}
    upper, lower = figures.ticket_distribution(scores, MARKS, "accuracy").axes
    assert sum(bar.get_height() for bar in lower.patches) == 6
    for axes, score in ((upper, 0.7), (lower, 0.58)):
        drawn = {line.get_label(): list(line.get_xdata()) for line in axes.lines}
        assert drawn["the search's ticket"] == [score]
        assert drawn["full model"][0] == 0.9
        assert drawn["linear layer, frozen encoder"][0] == 0.7
        assert drawn["majority class"][0] == 0.5
    layers = told.highest(scores["retrained"].index, 2)
    figure = figures.retrained_by_highest(scores["retrained"], layers, 2, MARKS, "accuracy")
    points = figure.axes[0].collections[0].get_offsets()
    assert np.round(points[:, 0]).tolist() == [2, 1, 2, 1, 2, 0]
    assert points[:, 1].tolist() == [0.85, 0.55, 0.58, 0.6, 0.72, 0.5]
    extremes = {phase: told.units_of_extremes(table, phase, 0.2) for phase in scores}
    attention, mlps = figures.units_of_best_and_worst(extremes).axes[:2]
    texts = [text.get_text() for text in attention.texts]
    assert texts[2:4] == ["50%", "50%"]  # layer 1: best and worst of the retrained
    assert texts[6:8] == ["100%", "0%"]
    assert [text.get_text() for text in mlps.texts][2:4] == ["0%", "100%"]
    assert [label.get_text() for label in attention.get_yticklabels()] == ["1", "2"]


def test_the_marks_are_read_off_the_searchs_way(tmp_path, monkeypatch):
    made = small_experiment(tmp_path, max_length=32)
    ways = [(63, 0.8), (0b110_110, 0.73), (0b010_110, 0.71), (0b010_010, 0.79)]
    path = [{"ticket": ticket, "score": score} for ticket, score in ways]
    monkeypatch.setattr(told, "searched", lambda *_: path)
    marks = told.marks_of(made, 3)
    assert (marks.half, marks.good) == (0b010_110, 0b110_110)
    assert marks.full == made.full_score(3).metrics["matthews"]
    monkeypatch.setattr(told, "searched", lambda *_: path[:2])
    assert told.marks_of(made, 3).half is None
    path = [{"ticket": 63, "score": -0.1}, {"ticket": 0b110_110, "score": 0.2}]
    assert told.marks_of(made, 3).good == 63  # less than that share of itself
    assert told.Marks(0.8, 0.4, 0.5, None, 63, 0.9).losing == 0.5  # no lower than the majority
