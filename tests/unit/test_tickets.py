"""The whole lottery: scoring all tickets at once equals scoring each, and so does retraining."""

import copy
import itertools

import numpy as np
import pytest
import torch

from lotterylib.encoder import layers_of, shape_of
from lotterylib.errors import LotteryError
from lotterylib.gates import gated, remove
from lotterylib.runs import lottery
from lotterylib.scoring import evaluate, example_losses
from lotterylib.subnetworks import StructuredSubnetwork
from lotterylib.tasks import find_task
from lotterylib.tickets import (
    score_all,
    search_tickets,
    subnetwork_of,
    tickets_of_size,
)
from tests.small import small_experiment

TASK = find_task("similarity")


def test_a_ticket_names_its_units(tiny_model):
    shape = shape_of(tiny_model())
    kept = subnetwork_of(0b100_011, shape)
    assert kept.heads.all(1).tolist() == kept.heads.any(1).tolist() == [True, True, False]
    assert kept.mlps.tolist() == [False, False, True]
    for wrong in (-1, 64):
        with pytest.raises(LotteryError, match=f"no ticket {wrong}: .* from 0 to 63"):
            subnetwork_of(wrong, shape)


def test_all_tickets_of_half_size_are_counted():
    assert len(tickets_of_size(6, 6)) == 924
    assert sum(len(tickets_of_size(3, units)) for units in range(7)) == 64
    assert all(ticket.bit_count() == 4 for ticket in tickets_of_size(3, 4))
    order = lottery.tickets_in_order(6)
    assert sorted(order) == tickets_of_size(6, 6) != order == lottery.tickets_in_order(6)


def test_scores_of_all_equal_those_of_each(tiny_model, encoded):
    model, split = tiny_model("similarity"), encoded("similarity", 70)
    with torch.no_grad():
        for layer in layers_of(model):
            layer.output.weight.mul_(20)
            layer.mlp_out.weight.mul_(20)
    found = score_all(model, split, TASK)
    for ticket, score in enumerate(found):
        alone = evaluate(
            remove(copy.deepcopy(model), subnetwork_of(ticket, shape_of(model))), split, TASK
        )
        np.testing.assert_allclose(score.predictions, alone.predictions, atol=2e-5)
    assert len({score.predictions for score in found}) == 64


def test_the_search_prunes_the_blocks_whose_gates_matter_least(tiny_model, encoded):
    model, split = tiny_model("similarity"), encoded("similarity", 20)
    states = search_tickets(model, split, TASK)
    assert [state.ticket.bit_count() for state in states] == [6, 4, 2]
    for before, after in itertools.pairwise(states):
        gone = before.ticket & ~after.ticket
        attention = [layer for layer in range(3) if gone >> layer & 1]
        mlps = [layer for layer in range(3) if gone >> (3 + layer) & 1]
        left = [layer for layer in range(3) if before.ticket >> layer & 1]
        assert attention == [min(left, key=before.attention.__getitem__)]
        left = [layer for layer in range(3) if before.ticket >> (3 + layer) & 1]
        assert mlps == [min(left, key=before.mlps.__getitem__)]
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
    made = small_experiment(tmp_path)
    ticket = 0b011_110
    kept = subnetwork_of(ticket, made.shape)
    assert isinstance(kept, StructuredSubnetwork)
    score = lottery.retrained(made, 3, ticket)
    monkeypatch.setattr(made, "subnetwork", lambda *_, **__: kept)
    assert score == made.score(3, "structured", "good", "retrained")


def test_the_table_has_every_ticket_and_what_is_known_of_it(tmp_path):
    made = small_experiment(tmp_path)
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
