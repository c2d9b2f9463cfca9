"""Training: repeatable, true to the subnetwork, and as the paper describes it."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from lotterylib.batches import Encoded, training_batches
from lotterylib.encoder import prunable_weights
from lotterylib.errors import LotteryError
from lotterylib.finetuning import Recipe, rate_share, train
from lotterylib.gates import gate_values, gated, remove
from lotterylib.tasks import find_task
from tests.small import half_of_the_weights, some_structure

TASK = find_task("acceptability")
RECIPE = Recipe(learning_rate=1e-3, epochs=2, batch_size=8)
ROWS = 20
STEPS = 6


@pytest.fixture(scope="module")
def split(encoded):
    return encoded("acceptability", ROWS, "train")


def same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("order", ["buckets", "random"])
def test_a_seed_gives_the_same_weights_byte_for_byte(order, tiny_model, split):
    results = []
    for seed in (5, 5, 6):
        torch.manual_seed(len(results))  # whatever came before must not matter
        model = tiny_model(seed=1)
        losses = train(model, split, TASK, replace(RECIPE, order=order), seed)
        results.append((losses, model.state_dict()))
    assert results[0][0] == results[1][0] != results[2][0]
    assert same(results[0][1], results[1][1])
    assert not same(results[0][1], results[2][1])


def test_what_is_returned_and_told(tiny_model, split):
    told, model, before = [], tiny_model(), torch.get_rng_state()
    losses = train(model, split, TASK, RECIPE, 0, progress=lambda *news: told.append(news))
    assert [share for share, _ in told] == pytest.approx([n / STEPS for n in range(1, STEPS + 1)])
    assert [found for _, found in told] == [f"loss {loss:.3f}" for loss in losses]
    assert not model.training
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_pruned_weights_stay_exactly_zero_and_the_others_move(tiny_model, split):
    model = tiny_model(rough=0.05)
    subnetwork = half_of_the_weights(model)
    start = {name: p.detach().clone() for name, p in prunable_weights(model).items()}
    assert len(train(model, split, TASK, RECIPE, 0, subnetwork, part=(0.5, 1.0))) == STEPS / 2
    moved = []
    for name, parameter in prunable_weights(model).items():
        kept = torch.from_numpy(subnetwork.weights[name])
        assert not parameter[~kept].any()
        if not name.endswith("key.bias"):  # they have no gradient but rounding
            moved.append((parameter != start[name])[kept])
    assert torch.cat(moved).float().mean() > 0.99
    assert not any(parameter._backward_hooks for parameter in model.parameters())


def test_gradients_are_masked_before_they_are_clipped(tiny_model, split, monkeypatch):
    model = tiny_model(rough=0.2)
    subnetwork = half_of_the_weights(model)
    real, norms = torch.nn.utils.clip_grad_norm_, []

    def spy(parameters, limit):
        parameters = list(parameters)
        for name, parameter in prunable_weights(model).items():
            assert not parameter.grad[~torch.from_numpy(subnetwork.weights[name])].any()
        norm = real(parameters, limit)
        norms.append(norm.item())
        after = torch.cat([p.grad.ravel() for p in parameters if p.grad is not None]).norm()
        assert after.item() == pytest.approx(min(norms[-1], limit), rel=1e-3)
        return norm

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", spy)
    train(model, split, TASK, Recipe(1e-3, epochs=2, batch_size=8, clip=0.5), 0, subnetwork)
    assert len(norms) == STEPS
    assert max(norms) > 0.5  # something was clipped at all


def test_training_a_removed_model_equals_training_behind_gates(tiny_model, encoded):
    task, split = find_task("similarity"), encoded("similarity", ROWS, "train")
    inputs, _ = split.batch(range(ROWS), torch.device("cpu"))
    subnetwork = some_structure()
    whole = tiny_model(task.name, rough=0.1, dropout=False)
    smaller, whole = remove(copy.deepcopy(whole), subnetwork).double(), whole.double()
    with gated(whole, *(gate.double() for gate in gate_values(subnetwork))):
        losses = train(whole, split, task, RECIPE, 0)
        wanted = whole(**inputs).logits
    assert train(smaller, split, task, RECIPE, 0) == pytest.approx(losses, abs=1e-6)
    assert torch.allclose(smaller(**inputs).logits, wanted, rtol=0, atol=1e-5)
    one, other = (model.base_model.encoder.layer[0].attention.self for model in (whole, smaller))
    kept = torch.from_numpy(np.repeat(subnetwork.heads[0], one.attention_head_size))
    torch.testing.assert_close(other.value.weight, one.value.weight[kept])


def test_a_loss_that_is_no_number_is_an_error(tiny_model, split):
    model, before = tiny_model(), torch.get_rng_state()
    with torch.no_grad():
        model.classifier.weight[0, 0] = torch.nan
    with pytest.raises(LotteryError, match=r"no longer a number at step 1 of 6.*below 0\.001"):
        train(model, split, TASK, RECIPE, 0, half_of_the_weights(tiny_model()))
    with pytest.raises(LotteryError, match="at step 4 of 6"):
        train(model, split, TASK, RECIPE, 0, part=(0.5, 1.0))
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(parameter._backward_hooks for parameter in model.parameters())


# --- a part of the steps -------------------------------------------------------


def plainly_trained(model, split, recipe, seed):
    """The whole training, written out."""
    order = torch.Generator().manual_seed(seed)
    steps = []
    for _ in range(recipe.epochs):
        steps += training_batches(split.lengths, recipe.batch_size, recipe.order, order)
    optimizer = torch.optim.AdamW(model.parameters(), eps=1e-8, weight_decay=0.0, fused=True)
    torch.manual_seed(seed)
    model.train()
    losses = []
    for step, rows in enumerate(steps):
        optimizer.param_groups[0]["lr"] = recipe.learning_rate * (1 - step / len(steps))
        inputs, labels = split.batch(rows, torch.device("cpu"))
        loss = torch.nn.functional.cross_entropy(model(**inputs).logits, labels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("order", ["buckets", "random"])
def test_the_whole_is_the_plain_loop(order, tiny_model, split):
    recipe = replace(RECIPE, order=order, clip=0.5)  # most gradients are cut at this norm
    # without padding, as random batches are trained on, dropout draws other masks
    model, plain = (tiny_model(seed=1, dropout=order == "buckets") for _ in range(2))
    losses = train(model, split, TASK, recipe, 5)
    with torch.random.fork_rng():
        assert losses == pytest.approx(plainly_trained(plain, split, recipe, 5), rel=1e-5)
    for name, value in plain.state_dict().items():
        if not name.endswith("key.bias"):  # their gradients are rounding, and Adam enlarges them
            torch.testing.assert_close(model.state_dict()[name], value, rtol=0, atol=2e-5)


@pytest.fixture
def visited(monkeypatch):
    """What training does: the rows and the learning rate of every step."""
    rows, rates = [], []
    real = Encoded.batch

    def batch(split, chosen, device):
        rows.append(list(chosen))
        return real(split, chosen, device)

    class Recorded(torch.optim.AdamW):
        def step(self, closure=None):
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    monkeypatch.setattr(Encoded, "batch", batch)
    monkeypatch.setattr(torch.optim, "AdamW", Recorded)
    return rows, rates


@pytest.mark.parametrize(("share", "first"), [(0.0, 0), (0.1, 1), (0.5, 3), (1.0, 6)])
def test_two_parts_visit_what_the_whole_visits(share, first, tiny_model, split, visited):
    rows, rates = visited
    train(tiny_model(), split, TASK, RECIPE, 4)
    whole = rows.copy()
    rows.clear()
    rates.clear()
    model, told = tiny_model(), []
    losses = [
        train(model, split, TASK, RECIPE, 4, None, lambda done, found: told.append(done), part)
        for part in ((0.0, share), (share, 1.0))
    ]
    assert [len(each) for each in losses] == [first, STEPS - first]
    assert rows == whole
    assert rates == pytest.approx([1e-3 * (1 - step / STEPS) for step in range(STEPS)], rel=1e-12)
    assert told == pytest.approx([step / STEPS for step in range(1, STEPS + 1)])


def test_the_rate_rises_in_warm_up_and_falls_to_zero():
    shares = [rate_share(step, 10, 0.3) for step in range(10)]
    np.testing.assert_allclose(shares, [0, 1 / 3, 2 / 3, *(1 - np.arange(7) / 7)])
    assert [rate_share(step, 4, 0.0) for step in range(4)] == [1, 0.75, 0.5, 0.25]


def test_weight_decay_moves_the_embeddings_of_words_that_never_occur(tiny_model, split):
    model = tiny_model(dropout=False)
    before = model.get_input_embeddings().weight.detach().clone()
    train(model, split, TASK, Recipe(1e-3, epochs=1, weight_decay=0.5), seed=4)
    after = model.get_input_embeddings().weight
    assert (after != before).any(1)[1:].all()  # the row of the padding is zero
