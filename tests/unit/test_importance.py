"""Importance equals what a loop over single examples, and what finite differences give."""

from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import lotterylib.importance
from lotterylib.gates import gate_values, gated
from lotterylib.importance import Importance, measure
from lotterylib.scoring import evaluate
from lotterylib.subnetworks import StructuredSubnetwork
from lotterylib.tasks import find_task

TASKS = ("acceptability", "similarity")
BATCH = 8
ROWS = 19


def some_closed():
    heads = np.ones((3, 4), dtype=bool)
    heads[0, 1] = heads[1, :] = heads[2, 3] = False
    return StructuredSubnetwork(heads, np.array([True, True, False]))


def everything():
    return StructuredSubnetwork(np.ones((3, 4), dtype=bool), np.ones(3, dtype=bool))


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch):
    monkeypatch.setattr(lotterylib.importance, "EVALUATION_BATCH", BATCH)


def loss_of(logits, labels, task):
    """The mean loss, written out."""
    if task.is_regression:
        return ((logits[:, 0] - labels) ** 2).mean()
    return -torch.log_softmax(logits, -1)[torch.arange(len(labels)), labels].mean()


def gate_gradients(model, split, task, subnetwork, rows):
    """The gradient of the mean loss of these rows with respect to gates that they share."""
    inputs, labels = split.batch(rows, torch.device("cpu"))
    gates = [gate.to(model.dtype).requires_grad_() for gate in gate_values(subnetwork)]
    with gated(model, *gates):
        loss = loss_of(model(**inputs).logits, labels, task)
    return [g.numpy() for g in torch.autograd.grad(loss, gates)]


@pytest.mark.parametrize("accumulation", ["example", "batch", "cumulative"])
def test_skipping_closed_mlps_changes_nothing_but_their_own(accumulation, tiny_model, encoded):
    model, task = tiny_model("acceptability", rough=0.2).train(), find_task("acceptability")
    split, subnetwork = encoded("acceptability", ROWS), some_closed()
    whole, score = measure(model, split, task, subnetwork, accumulation)
    part, same = measure(model, split, task, subnetwork, accumulation, closed_mlps=False)
    np.testing.assert_allclose(part.heads, whole.heads, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(part.mlps[:2], whole.mlps[:2], rtol=1e-5)
    assert whole.mlps[2] > 0 == part.mlps[2]
    assert same == score  # dropout is off


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("subnetwork", [everything(), some_closed()], ids=["all", "some"])
@pytest.mark.parametrize("accumulation", ["example", "batch", "cumulative"])
def test_scores_equal_their_slow_references(name, subnetwork, accumulation, tiny_model, encoded):
    task, split = find_task(name), encoded(name, ROWS)
    model = tiny_model(name, rough=0.2).double()
    totals, running = ([np.zeros((3, 4)), np.zeros(3)] for _ in "12")
    size = 1 if accumulation == "example" else BATCH
    starts = range(0, ROWS, size)
    for start in starts:
        rows = list(range(start, min(start + size, ROWS)))
        gradients = gate_gradients(model, split, task, subnetwork, rows)
        for total, carried, gradient in zip(totals, running, gradients, strict=True):
            carried += gradient
            total += np.abs(carried if accumulation == "cumulative" else gradient)
    importance, _ = measure(model, split, task, subnetwork, accumulation)
    np.testing.assert_allclose(importance.heads, totals[0] / len(starts), rtol=1e-5)
    np.testing.assert_allclose(importance.mlps, totals[1] / len(starts), rtol=1e-5)
    assert importance.heads.min() > 0  # also for closed gates


@pytest.mark.parametrize("gate", [(0, 1), (2, 0), (1,), (2,)], ids=["head", "open", "nu", "shut"])
def test_one_gate_equals_its_central_difference(gate, tiny_model, encoded):
    task, subnetwork = find_task("similarity"), some_closed()
    split, model = encoded("similarity", 1), tiny_model("similarity", rough=0.2).double()
    inputs, labels = split.batch([0], torch.device("cpu"))
    part = 0 if len(gate) == 2 else 1

    def moved(by):
        gates = [g.double() for g in gate_values(subnetwork)]
        gates[part][gate] += by
        with torch.no_grad(), gated(model, *gates):
            return loss_of(model(**inputs).logits, labels, task).item()

    slope = (moved(1e-4) - moved(-1e-4)) / 2e-4
    importance, _ = measure(model, split, task, subnetwork)
    measured = (importance.heads, importance.mlps)[part][gate]
    assert measured == pytest.approx(abs(slope), rel=1e-4)


def test_the_model_is_left_as_it_was_also_by_a_failure(tiny_model, encoded, monkeypatch):
    model = tiny_model(rough=0.2)
    model.base_model.embeddings.word_embeddings.weight.requires_grad_(False)
    flags = {name: p.requires_grad for name, p in model.named_parameters()}
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def check():
        assert {name: p.requires_grad for name, p in model.named_parameters()} == flags
        assert all(parameter.grad is None for parameter in model.parameters())
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())

    given = model, encoded("acceptability", ROWS), find_task("acceptability"), some_closed()
    measure(*given, closed_mlps=False)
    check()
    fail = Mock(side_effect=ZeroDivisionError)
    monkeypatch.setattr(lotterylib.importance, "example_losses", fail)
    with pytest.raises(ZeroDivisionError):
        measure(*given)
    check()


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("accumulation", ["example", "batch"])
def test_the_score_is_that_of_the_gated_model(name, accumulation, tiny_model, encoded):
    task, split, subnetwork = find_task(name), encoded(name, ROWS), some_closed()
    model = tiny_model(name, rough=0.2)
    with torch.no_grad(), gated(model, *gate_values(subnetwork)):
        # otherwise a random model gives one class only
        inputs, _ = split.batch(range(ROWS), torch.device("cpu"))
        model.classifier.bias -= model(**inputs).logits.mean(0)
        wanted = evaluate(model, split, task)
    _, score = measure(model, split, task, subnetwork, accumulation)
    assert score.predictions == pytest.approx(wanted.predictions, abs=2e-5)
    assert score.metrics == pytest.approx(wanted.metrics, abs=1e-4)
    assert score.constant == wanted.constant
    assert len(set(score.predictions)) > 1


scores = st.floats(0, 1e6, allow_subnormal=False).map(lambda x: 0.0 if x < 1e-100 else x)


@given(arrays(float, (3, 4), elements=scores), arrays(float, 3, elements=scores))
@settings(max_examples=40, deadline=None)
def test_normalisation_equals_its_definition(heads, mlps):
    norms = [sum(score**2 for score in layer) ** 0.5 for layer in heads]
    by_layer = [layer / norm if norm else layer for layer, norm in zip(heads, norms, strict=True)]
    result = Importance(heads, mlps).normalised()
    for raw, scores in ((np.array(by_layer), result.heads), (mlps, result.mlps)):
        spread = raw.max() - raw.min()
        wanted = (raw - raw.min()) / spread if spread else np.zeros_like(raw)
        if spread > 1e-9 * raw.max():  # otherwise rounding decides
            np.testing.assert_allclose(scores, wanted, rtol=1e-9, atol=1e-6)
        assert scores.min() == 0.0
        assert scores.max() in (0.0, 1.0)
