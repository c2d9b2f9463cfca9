"""Taking heads out of a model: ours against Torch-Pruning, which follows dependencies anew."""

import copy
from collections.abc import Iterator

import numpy as np
import torch
import torch_pruning

from lotterylib.encoder import layers_of, shape_of
from lotterylib.gates import remove
from lotterylib.subnetworks import StructuredSubnetwork
from tests.benchmarks.harness import Row, compare
from tests.benchmarks.workload import bert


def removal(quick: bool) -> Iterator[Row]:
    """Half of every layer's heads and of every MLP's units (Torch-Pruning) or of all MLPs (ours).

    The two do not remove the same: Torch-Pruning narrows all layers alike and knows no whole MLP,
    we take chosen heads and whole MLPs. So only the time that it takes is compared.
    """
    model = bert(hidden=96 if quick else 384)
    shape = shape_of(model)
    heads = np.zeros((shape.layers, shape.heads), dtype=bool)
    heads[:, ::2] = True
    half = StructuredSubnetwork(heads, np.arange(shape.layers) % 2 == 0)
    yield compare(
        "remove half of the heads and MLPs",
        "Torch-Pruning's pruner",
        lambda: remove(copy.deepcopy(model), half),
        lambda: _torch_pruning(copy.deepcopy(model)),
        rounds=1 if quick else 3,
        note="the peer narrows every layer alike; what is removed differs",
    )


def _torch_pruning(model: torch.nn.Module) -> None:
    ids = torch.randint(1000, 30000, (1, 16))
    heads = {}
    for layer in layers_of(model):  # type: ignore[arg-type]
        for projection in (layer.query, layer.key, layer.value):
            heads[projection] = 12
    torch_pruning.pruner.MetaPruner(
        model,
        {"input_ids": ids},
        importance=torch_pruning.importance.MagnitudeImportance(p=2),
        global_pruning=False,
        pruning_ratio=0.5,
        num_heads=heads,
        prune_num_heads=True,
        prune_head_dims=False,
        head_pruning_ratio=0.5,
        ignored_layers=[model.classifier],  # type: ignore[list-item]
        output_transform=lambda output: output.logits.sum(),
    ).step()
