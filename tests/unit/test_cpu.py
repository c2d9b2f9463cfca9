"""Through oneDNN, dense layers give what PyTorch gives, forwards and backwards."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from lotterylib.fast.cpu import use_onednn
from lotterylib.gates import remove
from lotterylib.scoring import evaluate
from lotterylib.subnetworks import StructuredSubnetwork
from lotterylib.tasks import find_task


def twins(columns, rows, bias=True):
    torch.manual_seed(0)
    plain = nn.Linear(columns, rows, bias=bias)
    fast = nn.Linear(columns, rows, bias=bias)
    fast.load_state_dict(plain.state_dict())
    use_onednn(fast)
    return plain, fast


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7,), (5, 7), (2, 5, 7), (1, 7)])
def test_values_and_gradients_are_those_of_a_linear_layer(shape, bias):
    plain, fast = twins(7, 4, bias)
    inputs = [torch.randn(shape, generator=torch.Generator().manual_seed(1)) for _ in range(2)]
    outputs = []
    for layer, rows in zip((plain, fast), inputs, strict=True):
        rows.requires_grad_()
        outputs.append(layer(rows))
        (outputs[-1] ** 2).sum().backward()
    torch.testing.assert_close(outputs[0], outputs[1])
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
    for one, other in zip(plain.parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_rows_that_do_not_lie_side_by_side_are_read_rightly():
    plain, fast = twins(6, 5)
    rows = torch.randn(6, 9, 3).transpose(0, 2)[:, ::2]
    assert not rows.is_contiguous()
    torch.testing.assert_close(plain(rows), fast(rows))


@pytest.mark.parametrize(("columns", "rows"), [(0, 3), (3, 0)])
def test_layers_without_columns_or_rows_are_left_to_torch(columns, rows):
    inputs = torch.ones(2, columns)
    layer = nn.Linear(1, 1)
    use_onednn(layer)
    layer.weight = nn.Parameter(torch.zeros(rows, columns))
    layer.bias = nn.Parameter(torch.ones(rows))
    assert layer(inputs).tolist() == functional.linear(inputs, layer.weight, layer.bias).tolist()


def test_other_types_than_float32_are_left_to_torch():
    layer = nn.Linear(3, 2)
    use_onednn(layer)
    layer.double()
    inputs = torch.randn(4, 3, dtype=torch.float64)
    assert layer(inputs).dtype == torch.float64


def test_names_parameters_and_hooks_stay(tiny_model):
    model = tiny_model("acceptability")
    names = {name: id(value) for name, value in model.named_parameters()}
    seen = []
    dense = model.base_model.encoder.layer[0].output.dense
    dense.register_forward_hook(lambda *_: seen.append(1))
    use_onednn(model)
    assert {name: id(value) for name, value in model.named_parameters()} == names
    model(input_ids=torch.tensor([[2, 6, 7, 3]]))
    assert seen


def test_gradients_of_a_whole_model_are_equal(tiny_model, encoded):
    split = encoded("acceptability", 8)
    gradients = []
    for fast in (False, True):
        model = tiny_model("acceptability", rough=0.2, dropout=False)
        if fast:
            use_onednn(model)
        inputs, labels = split.batch(range(8), torch.device("cpu"))
        model(**inputs, labels=labels).loss.backward()
        gradients.append([value.grad for value in model.parameters() if value.grad is not None])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_model_with_parts_removed_scores_the_same(tiny_model, encoded):
    split, task = encoded("acceptability", 20), find_task("acceptability")
    heads = torch.rand(3, 4, generator=torch.Generator().manual_seed(0)).numpy() > 0.5
    heads[1] = False
    kept = StructuredSubnetwork(heads, torch.tensor([True, False, True]).numpy())
    model = remove(tiny_model("acceptability", rough=0.2), kept)
    assert any(type(module) is nn.Linear for module in model.modules())
    wanted = model(**split.batch(range(20), torch.device("cpu"))[0]).logits
    score = evaluate(model, split, task)
    assert not any(type(module) is nn.Linear for module in model.modules())
    found = model(**split.batch(range(20), torch.device("cpu"))[0]).logits
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert score.examples == 20
