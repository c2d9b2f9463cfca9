"""Trainings at once are what they are one after another, with any subnetworks and any batches."""

import copy
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from lotterylib import gpu, together
from lotterylib.anatomy import prunable_weights
from lotterylib.errors import LotteryError
from lotterylib.gates import remove
from lotterylib.replaying import Replayed
from lotterylib.stacking import stack
from lotterylib.subnetworks import StructuredSubnetwork
from lotterylib.tasks import find_task
from lotterylib.together import _steps, train_together
from lotterylib.training import Recipe, batches_of, train
from tests.small import half_of_the_weights, some_structure

CPU = torch.device("cpu")
ROWS = 21
"""Not a multiple of the batch: in buckets a model's short batch meets others' whole ones."""


WAITING = ("lift_fresh", "_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "unique")
"""What a GPU cannot record: it asks for a result, or brings a value from the processor."""


class Recording(TorchDispatchMode):
    """Stands in for a CUDA graph: notes every operation with the very tensors it was done on."""

    def __init__(self):
        super().__init__()
        self.done = []

    def __torch_dispatch__(self, operation, types, args=(), named=None):
        result = operation(*args, **(named or {}))
        self.done.append((operation, args, named or {}, result))
        return result


class Recorder:
    """Records functions on a CPU as `replaying.record` does on a GPU.

    Recording changes nothing, and a replay does the same operations on the same tensors, whatever
    has become of Python's values.
    """

    def __init__(self, *kept):
        self.kept, self.recorded, self.replayed = kept, 0, 0

    def __call__(self, function):
        self.recorded += 1
        before = [value.detach().clone() for value in self.kept_now()]
        generator = torch.get_rng_state()
        with Recording() as tape:
            found = function()
        assert not {operation.overloadpacket.__name__ for operation, *_ in tape.done} & {*WAITING}
        with torch.no_grad():
            for value, old in zip(self.kept_now(), before, strict=True):
                value.copy_(old)
        torch.set_rng_state(generator)

        def replay():
            self.replayed += 1
            with torch.no_grad():
                for operation, args, named, result in tape.done:
                    again = operation(*args, **named)
                    for old, new in zip(flat(result), flat(again), strict=True):
                        if old.data_ptr() != new.data_ptr():
                            old.copy_(new)
            return found

        return replay

    def kept_now(self):
        return [value for some in self.kept for value in some()]


def flat(result):
    parts = result if isinstance(result, (tuple, list)) else [result]
    return [part for part in parts if isinstance(part, torch.Tensor)]


@pytest.fixture(params=["done", "replayed"])
def stepping(request, monkeypatch):
    """Both ways of doing steps; the second with a stand-in for CUDA graphs."""
    if request.param == "done":
        yield
        return
    made = []

    @contextmanager
    def replayed(step, device):
        trained = step.__self__
        recorder = Recorder(
            trained.stacked.parameters,
            lambda: (value.grad for value in trained.stacked.parameters()),
            lambda: [v for state in trained.optimizer.state.values() for v in state.values()],
        )
        made.append(recorder)
        yield Replayed(step, recorder)

    monkeypatch.setattr(together, "replayed", replayed)
    monkeypatch.setattr(gpu, "without_waiting", gpu._unchecked_masks)
    yield
    assert made
    assert all(recorder.replayed > recorder.recorded > 0 for recorder in made)


@pytest.mark.parametrize("order", ["buckets", "random"])
@pytest.mark.parametrize("task", ["acceptability", "entailment", "similarity"])
def test_it_is_what_trainings_one_after_another_are(task, order, stepping, tiny_model, encoded):
    split, task = encoded(task, ROWS, "train"), find_task(task)
    recipe = Recipe(1e-3, epochs=4, batch_size=4, order=order)
    seeds = (3, 5, 5, 7)
    models = [tiny_model(task.name, seed, rough=0.1, dropout=False) for seed in seeds]
    subnetworks = [None, some_structure(), half_of_the_weights(models[2]), None]
    alone = copy.deepcopy(models)
    wanted = []
    for model, seed, subnetwork in zip(alone, seeds, subnetworks, strict=True):
        if isinstance(subnetwork, StructuredSubnetwork):
            remove(model, subnetwork)
            subnetwork = None
        wanted.append(train(model, split, task, recipe, seed, subnetwork))
    told = []
    losses = train_together(
        models, split, task, recipe, seeds, subnetworks, lambda *words: told.append(words)
    )
    np.testing.assert_allclose(losses, wanted, rtol=2e-4)
    assert told[-1][0] == 1.0
    assert len(told) == len(losses[0]) == 4 * 6
    remove(models[1], subnetworks[1])
    for model, other in zip(models, alone, strict=True):
        assert not model.training
        theirs = other.state_dict()
        assert model.state_dict().keys() == theirs.keys()
        for name, value in model.state_dict().items():
            if not name.endswith(("key.bias", "k_lin.bias")):  # they have no gradient but rounding
                torch.testing.assert_close(value, theirs[name], rtol=1e-3, atol=2e-5, msg=name)


def test_closed_heads_and_weights_outside_stay_what_they_are(tiny_model, encoded):
    split, task = encoded("acceptability", ROWS, "train"), find_task("acceptability")
    models = [tiny_model(seed=seed, rough=0.1) for seed in (1, 2)]
    weights, structure = half_of_the_weights(models[0]), some_structure()
    before = {name: value.detach().clone() for name, value in prunable_weights(models[1]).items()}
    train_together(models, split, task, Recipe(1e-2, epochs=2), (1, 2), [weights, structure])
    for name, value in prunable_weights(models[0]).items():
        kept = torch.from_numpy(weights.weights[name])
        assert not value[~kept].any()
        assert value[kept].all()
    after = prunable_weights(models[1])
    for name in ("1.query.weight", "1.value.bias", "1.mlp_in.weight", "1.mlp_out.weight"):
        assert torch.equal(after[name], before[name])
    assert not torch.equal(after["1.output.bias"], before["1.output.bias"])
    now, once = (each["0.value.weight"].unflatten(0, (4, -1)) for each in (after, before))
    assert [torch.equal(now[head], once[head]) for head in range(4)] == [False, False, True, False]


def test_with_dropout_the_same_seeds_give_the_same_bytes_and_models_differ(tiny_model, encoded):
    split, task = encoded("acceptability", ROWS, "train"), find_task("acceptability")
    runs = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        models = [tiny_model(seed=0) for _ in range(2)]
        before = torch.get_rng_state()
        losses = train_together(models, split, task, Recipe(1e-3, epochs=1), (4, 4), [None, None])
        assert torch.equal(torch.get_rng_state(), before)
        runs.append((losses, models[0].state_dict()))
        assert losses[0] != losses[1]  # all they do not have in common is dropout
    assert runs[0][0] == runs[1][0]
    assert all(torch.equal(value, runs[1][1][name]) for name, value in runs[0][1].items())


def test_a_loss_that_is_no_number_is_an_error(tiny_model, encoded):
    split, task = encoded("acceptability", ROWS, "train"), find_task("acceptability")
    models = [tiny_model(seed=seed) for seed in (1, 2)]
    with torch.no_grad():
        models[1].classifier.weight[0, 0] = torch.nan
    with pytest.raises(LotteryError, match="no longer a number at step 1 of"):
        train_together(models, split, task, Recipe(1e-3), (1, 2), [None, None])


@given(
    rows=st.integers(1, 40), size=st.integers(1, 9), seeds=st.lists(st.integers(0, 9), min_size=1)
)
@settings(max_examples=25, deadline=None)
def test_every_example_counts_once_an_epoch_for_every_model(rows, size, seeds, encoded):
    split = encoded("entailment", rows, "train")
    recipe = Recipe(1e-3, epochs=2, batch_size=size)
    batches = [batches_of(split, recipe, seed) for seed in seeds]
    visited = [torch.zeros(rows) for _ in seeds]
    for step, (places, shares, length) in enumerate(_steps(batches, split, CPU)):
        own = zip(places.view(len(seeds), -1), shares.view(len(seeds), -1), strict=True)
        for model, (place, share) in enumerate(own):
            assert share.sum() == pytest.approx(1)
            assert place[share > 0].tolist() == batches[model][step]
            visited[model] += torch.bincount(place[share > 0], minlength=rows)
        assert length % 8 == 0
        assert 0 <= length - max(split.lengths[row] for row in places.tolist()) < 8
    assert all((visits == 2).all() for visits in visited)


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "distilbert"])
def test_a_stacked_model_computes_each_ones_own(family, family_model, family_inputs):
    models = [family_model(family, "sdpa", seed=seed) for seed in range(3)]
    inputs = family_inputs(models[0])
    plain = [copy.deepcopy(model) for model in models]
    stacked = stack(models)
    wanted = torch.cat([model(**inputs).logits for model in plain])
    found = stacked(**{name: torch.cat([value] * 3) for name, value in inputs.items()}).logits
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(wanted[:4], wanted[4:8], atol=0.1)
    (found * torch.arange(1.0, 4).repeat_interleave(4)[:, None]).sum().backward()
    for number, model in enumerate(plain, start=1):
        (number * model(**inputs).logits).sum().backward()
    for name, value in stacked.named_parameters():
        wanted = torch.stack([model.get_parameter(name).grad for model in plain])
        torch.testing.assert_close(value.grad, wanted, rtol=1e-3, atol=1e-4, msg=name)


def test_models_have_their_weights_in_common_with_the_stacked_one(tiny_model):
    models = [tiny_model(seed=seed) for seed in (1, 2)]
    before = [copy.deepcopy(model.state_dict()) for model in models]
    stacked = stack(models)
    for model, old in zip(models, before, strict=True):
        assert all(torch.equal(value, old[name]) for name, value in model.state_dict().items())
    with torch.no_grad():
        for value in stacked.parameters():
            value[1] += 1
    assert all(torch.equal(v, before[0][name]) for name, v in models[0].named_parameters())
    assert all(torch.equal(v, before[1][name] + 1) for name, v in models[1].named_parameters())


def test_what_cannot_be_stacked_is_a_sentence(family_model, tiny_model):
    with pytest.raises(LotteryError, match="'mpnet' cannot be trained together"):
        stack([family_model("mpnet", seed=seed) for seed in (1, 2)])
    models = [tiny_model(), remove(tiny_model(), some_structure())]
    for pair in (models, models[::-1]):
        with pytest.raises((LotteryError, RuntimeError), match=r"shapes|equal size"):
            stack(pair)
    plain = tiny_model()
    plain.base_model.encoder.layer[0].attention.self.query = torch.nn.Conv1d(2, 2, 1)
    with pytest.raises(LotteryError, match="type Conv1d cannot be trained together"):
        stack([plain, copy.deepcopy(plain)])


def test_a_shape_is_done_then_recorded_then_replayed():
    weight, done = torch.zeros(()), []

    def step(batch):
        done.append(batch["x"].shape)
        weight.add_(batch["x"].sum())
        return weight * 2

    recorder = Recorder(lambda: [weight])
    replayed = Replayed(step, recorder)
    found = [
        replayed({"x": torch.full((size,), value)})
        for size, value in ((2, 1.0), (3, 1.0), (2, 2.0), (2, 5.0), (3, 2.0), (2, 0.0))
    ]
    assert [value.item() for value in found] == [4, 10, 18, 38, 50, 50]
    assert done == [(2,), (3,), (2,), (3,)]
    assert (recorder.recorded, recorder.replayed) == (2, 4)


def test_a_shape_that_is_too_large_to_record_is_simply_done():
    weight, tries = torch.zeros(()), []

    def step(batch):
        return weight.add_(batch["x"].sum()).clone()

    recorder = Recorder(lambda: [weight])

    def record(function):
        tries.append(function)
        if len(tries) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return recorder(function)

    replayed = Replayed(step, record)
    with pytest.warns(UserWarning, match="no memory to record") as told:
        found = [replayed({"x": torch.ones(size)}).item() for size in (3, 3, 3, 3, 2, 2, 2)]
    assert len(told) == 1
    assert found == [3, 6, 9, 12, 14, 16, 18]
    assert len(tries) == 2
    assert (recorder.recorded, recorder.replayed) == (1, 2)


def test_other_errors_while_recording_are_not_hidden():
    def record(_function):
        raise RuntimeError("operation not permitted when stream is capturing")

    replayed = Replayed(lambda batch: batch["x"], record)
    replayed({"x": torch.ones(1)})
    with pytest.raises(RuntimeError, match="not permitted"):
        replayed({"x": torch.ones(1)})


def test_what_python_remembers_would_be_noticed():
    """The stand-in for graphs is worth its salt: a value that is no tensor stays what it was."""
    rate = {"now": 1.0}
    weight = torch.zeros(())

    def step(batch):
        weight.add_(batch["x"].sum() * rate["now"])
        return weight + 0

    replayed = Replayed(step, Recorder(lambda: [weight]))
    for rate["now"] in (1.0, 2.0, 3.0):
        found = replayed({"x": torch.ones(1)})
    assert found.item() == 1 + 2 + 2
