"""Tickets: all of them scored at once are what each scores by itself, and so are the retrained."""

import dataclasses
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch

import lotterylib.tickets
from lotterylib.cli import main
from lotterylib.data.files import read_json
from lotterylib.encoder import ARCHITECTURES, shape_of
from lotterylib.errors import LotteryError
from lotterylib.fast.gpu import set_precision
from lotterylib.gates import gated, remove
from lotterylib.importance import measure
from lotterylib.runs.experiment import Experiment
from lotterylib.runs.lottery import order_of, pruned, retrained, search_path, table_of
from lotterylib.scoring import evaluate
from lotterylib.subnetworks import StructuredSubnetwork, full_subnetwork
from lotterylib.tasks import find_task
from lotterylib.tickets import (
    TicketStep,
    block_importance,
    picked_good,
    picked_half,
    predict_all,
    score_all,
    search_over_tickets,
    subnetwork_of,
    ticket_of,
    tickets_of,
    units_of,
)
from tests.small import small_experiment

ROWS = 24


@pytest.fixture(scope="module")
def split(encoded):
    return encoded("similarity", ROWS)


@pytest.fixture
def several_batches(monkeypatch):
    monkeypatch.setattr(lotterylib.tickets, "EVALUATION_BATCH", 10)


def test_the_bits_are_the_attention_blocks_of_all_layers_and_then_their_mlps():
    first_attention, last_attention = subnetwork_of(1, 6, 12), subnetwork_of(1 << 5, 6, 12)
    assert first_attention.heads.sum(1).tolist() == [12, 0, 0, 0, 0, 0]
    assert last_attention.heads.sum(1).tolist() == [0, 0, 0, 0, 0, 12]
    assert not first_attention.mlps.any()
    assert subnetwork_of(1 << 6, 6, 12).mlps.tolist() == [True] + 5 * [False]
    assert subnetwork_of(1 << 11, 6, 12).mlps.tolist() == 5 * [False] + [True]
    assert units_of([4095, 0b100_001], 3).astype(int).tolist() == [
        [[1, 1, 1], [1, 1, 1]],
        [[1, 0, 0], [0, 0, 1]],
    ]


def test_every_ticket_is_found_again_in_its_subnetwork():
    assert [ticket_of(subnetwork_of(ticket, 3, 4)) for ticket in range(64)] == list(range(64))
    assert len(tickets_of(6)) == 4096
    assert len(tickets_of(6, 6)) == 924
    assert all(units_of(ticket, 6).sum() == 6 for ticket in tickets_of(6, 6))
    heads = np.ones((3, 4), dtype=bool)
    heads[1, 2] = False
    with pytest.raises(LotteryError, match="this one keeps some"):
        ticket_of(StructuredSubnetwork(heads, heads[:, 0]))
    with pytest.raises(LotteryError, match=r"12 layers has 16,777,216 tickets.*at most 6 layers"):
        tickets_of(12)


@pytest.mark.parametrize("dropped", [False, True])
def test_all_tickets_predict_what_each_predicts_by_itself(
    dropped, tiny_model, split, several_batches
):
    task = find_task("similarity")
    model = tiny_model("similarity", rough=0.2)
    before = evaluate(model, split, task)
    found = predict_all(model, split, task, dropped)
    assert found.shape == (64, len(split))
    assert found.dtype == np.float32
    scores = score_all(model, split, task, dropped)
    for ticket in range(64):
        pruned = remove(tiny_model("similarity", rough=0.2), subnetwork_of(ticket, 3, 4), dropped)
        wanted = evaluate(pruned, split, task)
        assert found[ticket] == pytest.approx(np.array(wanted.predictions), abs=2e-5)
        assert scores[ticket].metrics == pytest.approx(wanted.metrics, abs=1e-4)
        assert scores[ticket].constant == wanted.constant
    assert len(np.unique(found.round(4), axis=0)) == 64  # every unit matters
    assert evaluate(model, split, task) == before
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_every_family_is_walked_through(family, family_model, encoded, several_batches):
    split = encoded("acceptability", ROWS)
    cut = [
        {"input_ids": feature["input_ids"][: 12 + n % 9]}
        for n, feature in enumerate(split.features)
    ]
    split = dataclasses.replace(split, features=cut, labels=split.labels.float())
    task = find_task("similarity")
    found = predict_all(family_model(family, labels=1), split, task)
    for ticket in (0, 5, 21, 42, 56, 63):
        pruned = remove(family_model(family, labels=1), subnetwork_of(ticket, 3, 4))
        wanted = np.array(evaluate(pruned, split, task).predictions)
        assert found[ticket] == pytest.approx(wanted, abs=2e-5)


def test_half_precision_is_that_of_the_model(tiny_model, split):
    def model():
        return set_precision(tiny_model("similarity", rough=0.2), "bfloat16")

    task = find_task("similarity")
    found = predict_all(model(), split, task)
    for ticket in (11, 44, 63):
        wanted = evaluate(remove(model(), subnetwork_of(ticket, 3, 4)), split, task).predictions
        assert found[ticket] == pytest.approx(np.array(wanted), abs=1e-5)
    assert not np.allclose(found, predict_all(tiny_model("similarity", rough=0.2), split, task))


def test_a_blocks_importance_is_the_absolute_sum_of_its_heads_gradients(
    tiny_model, split, several_batches
):
    """Against a model whose blocks are scaled by hand, an example at a time."""
    task = find_task("similarity")
    model, ticket = tiny_model("similarity", rough=0.2), 0b110_101
    importance, score = block_importance(model, split, task, ticket)
    pruned = remove(tiny_model("similarity", rough=0.2), subnetwork_of(ticket, 3, 4))
    assert score.metrics == pytest.approx(evaluate(pruned, split, task).metrics, abs=1e-5)
    heads, _ = measure(model, split, task, full_subnetwork(shape_of(model)))
    blocks, _ = block_importance(model, split, task, 63)
    assert (blocks[0] <= heads.heads.sum(1) + 1e-7).all()
    assert (blocks[0] < 0.99 * heads.heads.sum(1)).any()  # heads pull both ways
    assert blocks[1] == pytest.approx(heads.mlps, rel=1e-5)
    assert importance == pytest.approx(by_differences(model, split, ticket), rel=2e-2, abs=1e-4)


def by_differences(model, split, ticket, step=1e-3):
    """Importance from losses at gates that are a little more and a little less open."""
    opened = torch.from_numpy(units_of(ticket, 3)).float()

    @torch.no_grad()
    def losses(gates):
        heads = gates[0][:, None].expand(3, 4)
        inputs, labels = split.batch(range(len(split)), torch.device("cpu"))
        with gated(model, heads, gates[1]):
            return (model(**inputs).logits.squeeze(-1).double() - labels) ** 2

    found = np.zeros((2, 3))
    for place in np.ndindex(2, 3):
        moved = torch.zeros(2, 3)
        moved[place] = step
        slope = (losses(opened + moved) - losses(opened - moved)) / (2 * step)
        found[place] = slope.abs().mean()
    return found


def test_the_search_prunes_the_least_important_unit_at_each_step():
    worth = np.array([[3.0, 1.0, 6.0], [5.0, 2.0, 4.0]])

    def measured(ticket):
        left = units_of(ticket, 3)
        # What is closed may look unimportant; it cannot be pruned again. And the first attention
        # block is worth nothing once the second MLP has gone.
        found = np.where(left, worth, 0.0)
        if not left[1, 1]:
            found[0, 0] *= 0
        return found, float(left.sum())

    path = search_over_tickets(measured, 3)
    gone = [one.ticket ^ other.ticket for one, other in pairwise(path)]
    assert gone == [1 << bit for bit in (1, 4, 0, 5, 3, 2)]
    assert path[-1].ticket == 0
    assert picked_half(path) == 0b101_100
    assert picked_good(path, 0.5) == picked_half(path)
    assert picked_good(path, 0.51) == 0b101_101


def test_the_good_ticket_ends_where_the_score_first_falls():
    steps = [
        TicketStep(ticket, np.zeros((2, 1)), score)
        for ticket, score in ((3, 0.8), (1, 0.73), (2, 0.71), (0, 0.9))
    ]
    assert picked_good(steps, 0.9) == 1
    assert picked_good(steps, 0.88) == 0
    assert picked_good(steps, 1.0) == 3


# In the run store


@pytest.mark.parametrize("preset", ["paper", "official", "paper+embeddings"])
def test_a_retrained_ticket_scores_as_the_same_structured_subnetwork(preset, tmp_path, monkeypatch):
    made = small_experiment(tmp_path, preset=preset, train_rows=40)
    kept = subnetwork_of(0b110_001, 3, 4)
    score = retrained(made, 3, 0b110_001)
    monkeypatch.setattr(Experiment, "subnetwork", lambda *_, **__: kept)
    wanted = made.score(3, "structured", "good", "retrained")
    assert score == wanted
    losses = [read_json(path) for path in tmp_path.glob("*/*/*retrained*/*/losses.json")]
    assert losses[0] == losses[1]
    assert not list(tmp_path.glob("*/*/ticket-retrained*/*/model.safetensors"))


def test_the_pruned_scores_are_those_of_the_finetuned_weights(tmp_path):
    made = small_experiment(tmp_path, task="similarity")
    scores, constant = pruned(made, 3)
    assert (scores.dtype, constant.dtype) == (np.float64, np.bool_)
    for ticket in (63, 62, 7):
        kept = subnetwork_of(ticket, 3, 4)
        wanted = evaluate(remove(made.finetuned(3), kept), made.splits[1], made.task)
        assert scores[ticket] == pytest.approx(wanted.metrics["pearson"], abs=1e-4)
        assert constant[ticket] == wanted.constant
    path = search_path(made, 3)
    assert [step.ticket.bit_count() for step in path] == [6, 5, 4, 3, 2, 1, 0]
    assert path[0].score == pytest.approx(made.full_score(3).metrics["pearson"], abs=1e-5)


def test_the_table_holds_what_has_been_computed_so_far(tmp_path):
    made = small_experiment(tmp_path, seeds=[3, 1])
    order = order_of(3)
    assert sorted(order) == tickets_of(3, 3)
    assert order != sorted(order)
    assert sorted(order_of(6)) == tickets_of(6, 6)
    score = retrained(made, 1, order[4])
    table = table_of(made)
    assert list(table["ticket"]) == [*range(64), *range(64)]
    assert table["pruned"].isna().all()
    done = table[table["retrained"].notna()]
    assert done[["seed", "ticket", "units"]].values.tolist() == [[1, order[4], 3]]
    assert done["retrained"].item() == score.metrics["matthews"]
    pruned(made, 3)
    assert table_of(made).groupby("seed")["pruned"].count().to_dict() == {1: 0, 3: 64}


def test_the_command_takes_up_where_it_stopped(tmp_path, capsys):
    def run(*options):
        asked = ["acceptability", "--encoder", "tiny", "--budget", "smoke", "--seeds", "3"]
        places = ["--store", str(tmp_path / "runs"), "--pages", str(tmp_path / "pages")]
        return main(["tickets", *asked, *places, "--jobs", "1", "--no-pages", *options])

    def retrained_so_far():
        table = pd.read_csv(tmp_path / "pages" / "tiny" / "acceptability" / "tickets.csv")
        assert len(table) == 64
        assert table["pruned"].notna().all()
        return set(table.loc[table["retrained"].notna(), "ticket"])

    assert run("--first", "0") == 0
    (picked,) = retrained_so_far()
    assert run("--only", "7,56") == 0
    assert retrained_so_far() == {picked, 7, 56}
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/*/*/*/*")}
    assert run("--first", "2") == 0
    assert retrained_so_far() == {picked, 7, 56, *order_of(3)[:2]}
    assert all(path.stat().st_mtime_ns == since for path, since in before.items())
    for options, said in (
        (["--only", "3"], "3 is no ticket of half the units of tiny"),
        (["--only", "x"], "The option --only is 'x'"),
        (["--first", "-1"], "The option --first is -1"),
    ):
        assert run(*options) == 2
        assert said in capsys.readouterr().err
