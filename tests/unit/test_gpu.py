"""What only a GPU does, done on a CPU: half precision, and steps that wait for nothing."""

from collections import Counter

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch.utils._python_dispatch import TorchDispatchMode

from lotterylib import finetuning as training
from lotterylib import importance, scoring
from lotterylib.encoder import shape_of
from lotterylib.errors import LotteryError
from lotterylib.fast import gpu
from lotterylib.finetuning import Recipe, train
from lotterylib.importance import measure
from lotterylib.scoring import evaluate
from lotterylib.subnetworks import full_subnetwork
from lotterylib.tasks import find_task

TASK = find_task("similarity")
WAITING = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "unique", "masked_select")
SHUFFLES = 2
"""How often an epoch's batches are drawn, which happens on the processor."""
FETCHING = ("tolist", "item", "cpu", "numpy", "__bool__", "__int__", "__float__", "__index__")


class Waits(TorchDispatchMode):
    """Counts the operations whose result the processor has to know before it can go on.

    On a CPU some of them are none, so calls of the methods of tensors are counted as well.
    """

    def __init__(self):
        super().__init__()
        self.found = Counter()
        self._patch = pytest.MonkeyPatch()

    def __enter__(self):
        for name in FETCHING:
            self._patch.setattr(torch.Tensor, name, self._counted(name))
        return super().__enter__()

    def __exit__(self, *given):
        self._patch.undo()
        return super().__exit__(*given)

    def _counted(self, name):
        plain = getattr(torch.Tensor, name)

        def method(tensor, *args, **named):
            self.found[name] += 1
            return plain(tensor, *args, **named)

        return method

    def __torch_dispatch__(self, operation, types, args=(), named=None):
        name = operation.overloadpacket.__name__
        if name in WAITING:
            self.found[name] += 1
        return operation(*args, **(named or {}))


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Everything but the precision."""
    monkeypatch.setattr(gpu, "on_gpu", lambda device: True)


def in_half(monkeypatch):
    monkeypatch.setattr(gpu, "half_of", lambda model: torch.bfloat16)


def trained(tiny_model, encoded, **changes):
    model = tiny_model("similarity", dropout=False)
    recipe = Recipe(**({"learning_rate": 1e-3, "epochs": 2, "batch_size": 8} | changes))
    return model, train(model, encoded("similarity", 48, "train"), TASK, recipe, 0)


def test_on_a_cpu_nothing_is_done_otherwise(tiny_model):
    model = tiny_model()
    assert gpu.half_of(model) is None
    with gpu.autocast(model), gpu.without_sync(model):
        assert not torch.is_autocast_enabled("cpu")
        assert model.config._attn_implementation == "sdpa"


def test_steps_wait_for_nothing(as_on_a_gpu, tiny_model, encoded):
    model, split = tiny_model("similarity"), encoded("similarity", 48, "train")
    split.batch([0], model.device)  # what is moved once may wait
    found = []
    for epochs in (1, 4):
        with Waits() as waits:
            train(model, split, TASK, Recipe(1e-3, epochs=epochs, batch_size=8), 0)
        waits.found["tolist"] -= SHUFFLES * epochs
        found.append(waits.found)
    assert found[0] == found[1]
    assert found[0]["tolist"] == 1


def test_passes_wait_for_nothing(as_on_a_gpu, tiny_model, encoded, monkeypatch):
    monkeypatch.setattr(scoring, "EVALUATION_BATCH", 8)
    monkeypatch.setattr(importance, "EVALUATION_BATCH", 8)
    model, split = tiny_model("similarity"), encoded("similarity", 48)
    full = full_subnetwork(shape_of(model))
    found = []
    for rows in (16, 48):
        some = split.subset(range(rows))
        some.batch([0], model.device)
        with Waits() as waits:
            evaluate(model, some, TASK)
            measure(model, some, TASK, full)
        found.append(waits.found)
    assert found[0] == found[1]


@pytest.mark.parametrize("order", ["buckets", "random"])
def test_not_waiting_changes_nothing(order, tiny_model, encoded, request):
    model, losses = trained(tiny_model, encoded, order=order)
    split, full = encoded("similarity", 48), full_subnetwork(shape_of(model))
    plain = evaluate(model, split, TASK), measure(model, split, TASK, full)[0]
    request.getfixturevalue("as_on_a_gpu")
    again, others = trained(tiny_model, encoded, order=order)
    np.testing.assert_allclose(others, losses, atol=1e-5)
    assert again.config._attn_implementation == "sdpa"
    other = evaluate(model, split, TASK), measure(model, split, TASK, full)[0]
    np.testing.assert_allclose(other[0].predictions, plain[0].predictions, atol=1e-5)
    np.testing.assert_allclose(other[1].heads, plain[1].heads, atol=1e-6)


def test_a_loss_that_is_no_number_is_named_by_its_step_however_late_it_is_seen(
    as_on_a_gpu, tiny_model, encoded, monkeypatch
):
    losses = iter([1.0, 1.0, float("nan")] + [1.0] * 9)
    plain = training.example_losses

    def broken(logits, labels, task):
        return plain(logits, labels, task) * next(losses)

    monkeypatch.setattr(training, "example_losses", broken)
    with pytest.raises(LotteryError, match="no longer a number at step 3 of 12"):
        trained(tiny_model, encoded)


def test_training_in_half_precision_stays_near_and_keeps_float32_weights(
    tiny_model, encoded, monkeypatch
):
    model, losses = trained(tiny_model, encoded)
    in_half(monkeypatch)
    other, found = trained(tiny_model, encoded)
    assert {value.dtype for value in other.parameters()} == {torch.float32}
    assert found != losses
    np.testing.assert_allclose(found, losses, rtol=0.03)
    split = encoded("similarity", 48)
    mine, others = (np.array(evaluate(m, split, TASK).predictions) for m in (model, other))
    assert np.abs(mine - others).max() < 0.1


@pytest.mark.parametrize("accumulation", ["example", "batch", "cumulative"])
def test_importance_in_bfloat16_ranks_alike(accumulation, tiny_model, encoded, monkeypatch):
    model, split = tiny_model("similarity", rough=0.1), encoded("similarity", 64)
    full = full_subnetwork(shape_of(model))
    plain, _ = measure(model, split, TASK, full, accumulation)
    in_half(monkeypatch)
    half, _ = measure(model, split, TASK, full, accumulation)
    assert not np.array_equal(half.heads, plain.heads)
    assert spearmanr(half.heads.ravel(), plain.heads.ravel()).statistic > 0.97
