"""Through oneDNN, dense layers give what PyTorch gives; freed memory is kept."""

import platform
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional

from lotterylib.fast.cpu import use_onednn
from lotterylib.gates import remove
from lotterylib.scoring import evaluate
from lotterylib.subnetworks import StructuredSubnetwork
from lotterylib.tasks import find_task

SCATTERED = torch.randn(7, 9, 3).transpose(0, 2)[:, ::2]  # rows that do not lie side by side


def twins(columns, rows, bias=True):
    torch.manual_seed(0)
    plain = nn.Linear(columns, rows, bias=bias)
    fast = nn.Linear(columns, rows, bias=bias)
    fast.load_state_dict(plain.state_dict())
    use_onednn(fast)
    return plain, fast


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [torch.randn(7), torch.randn(2, 5, 7), SCATTERED])
def test_values_and_gradients_are_those_of_a_linear_layer(rows, bias):
    plain, fast = twins(7, 4, bias)
    inputs, outputs = [rows.detach().clone().requires_grad_() for _ in range(2)], []
    for layer, given in zip((plain, fast), inputs, strict=True):
        outputs.append(layer(given))
        (outputs[-1] ** 2).sum().backward()
    torch.testing.assert_close(outputs[0], outputs[1])
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
    for one, other in zip(plain.parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    torch.testing.assert_close(plain(rows), fast(rows))  # wherever they lie


@pytest.mark.parametrize(("columns", "rows"), [(0, 3), (3, 0)])
def test_empty_layers_and_other_types_than_float32_are_left_to_torch(columns, rows):
    inputs, layer = torch.ones(2, columns), nn.Linear(1, 1)
    use_onednn(layer)
    layer.weight = nn.Parameter(torch.zeros(rows, columns))
    layer.bias = nn.Parameter(torch.ones(rows))
    assert layer(inputs).tolist() == functional.linear(inputs, layer.weight, layer.bias).tolist()
    _, layer = twins(3, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.ones(4, 3)).dtype == torch.bfloat16
    assert layer.double()(torch.ones(4, 3, dtype=torch.float64)).dtype == torch.float64


def test_a_model_with_parts_removed_scores_the_same(tiny_model, encoded):
    split, task = encoded("acceptability", 20), find_task("acceptability")
    heads = torch.rand(3, 4, generator=torch.Generator().manual_seed(0)).numpy() > 0.5
    heads[1] = False
    kept = StructuredSubnetwork(heads, torch.tensor([True, False, True]).numpy())
    model = remove(tiny_model("acceptability", rough=0.2), kept)
    assert any(type(module) is nn.Linear for module in model.modules())
    wanted = model(**split.batch(range(20), torch.device("cpu"))[0]).logits
    names, seen = {name: id(value) for name, value in model.named_parameters()}, []
    model.classifier.register_forward_hook(lambda *_: seen.append(1))
    evaluate(model, split, task)
    assert not any(type(module) is nn.Linear for module in model.modules())
    found = model(**split.batch(range(20), torch.device("cpu"))[0]).logits
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert {name: id(value) for name, value in model.named_parameters()} == names
    assert seen  # names, parameters and hooks stay


FAULTS = """
import resource
import torch
from lotterylib.fast.cpu import keep_freed_memory

if {kept}:
    keep_freed_memory()


def batch():
    return [torch.ones(10_000_000) for _ in range(3)]  # 40 MB each, which the next wants again


touched = []
for _ in range(21):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    batch()
    touched.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(sorted(touched)[10])  # the first batches find holes of the wrong size, more or less by chance
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_kept_memory_is_touched_for_the_first_time_once():
    commands = [[sys.executable, "-c", FAULTS.format(kept=kept)] for kept in (False, True)]
    freed, kept = (int(subprocess.check_output(each, text=True)) for each in commands)
    assert freed > 120e6 / 4096 / 2
    assert kept < freed / 10
