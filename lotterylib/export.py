"""Export: a pruned model as a plain transformers model, which `from_pretrained` reads back.

A transformers 5 configuration has one number of heads and one width of MLPs for all layers, and
takes the size of a head from the number of heads. So it cannot say what has been removed. Zeros
can: a gate that is closed for ever. The exported model computes the same and is as large as it was
before pruning.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from transformers import PreTrainedModel

from lotterylib.encoder import architecture_of, layers_of
from lotterylib.gates import check_fits, zero_pruned_weights
from lotterylib.subnetworks import StructuredSubnetwork, Subnetwork, WeightSubnetwork


@torch.no_grad()
def export(model: PreTrainedModel, subnetwork: Subnetwork) -> PreTrainedModel:
    """A plain transformers model whose logits are those of the pruned one.

    Heads that are pruned get zeros for their rows of W_Q, W_K and W_V with the biases and for their
    columns of W_O; MLPs zeros throughout, the last bias included.

    Args:
        model: the whole model, or one that has been through `gates.remove` with this subnetwork,
            also if it was trained after that; it stays as it is.
        subnetwork: what stays.

    Returns:
        A new model on the CPU, in evaluation mode, for `save_pretrained`.

    Raises:
        LotteryError: the subnetwork does not fit the model.
    """
    with torch.random.fork_rng(devices=[]):
        whole = type(model)(copy.deepcopy(model.config)).eval()
    whole.to(dtype=model.dtype)  # type: ignore[call-arg]
    if isinstance(subnetwork, WeightSubnetwork):
        whole.load_state_dict(model.state_dict())
        return zero_pruned_weights(whole, subnetwork)
    assert isinstance(subnetwork, StructuredSubnetwork)
    check_fits(whole, subnetwork)
    left = {name: value.cpu() for name, value in model.state_dict().items()}
    kept = _kept(whole, subnetwork)
    for name, value in whole.state_dict().items():
        if name not in kept:
            value.copy_(left[name])
            continue
        dimension, index = kept[name]
        value.zero_()
        own = left.get(_name_without_heads(whole, name) if name not in left else name)
        if own is not None and own.shape == value.shape:  # nothing was removed from it
            own = own.index_select(dimension, index)
        if own is not None:  # removal takes whole modules out where nothing is left
            value.index_copy_(dimension, index, own)
    return whole


def _kept(
    whole: PreTrainedModel, subnetwork: StructuredSubnetwork
) -> dict[str, tuple[int, torch.Tensor]]:
    """Of each parameter that pruning touches, along which dimension it does and what stays."""
    architecture, base = architecture_of(whole), whole.base_model_prefix
    found = {}
    for number, layer in enumerate(layers_of(whole)):
        width = layer.output.in_features // subnetwork.heads.shape[1]
        rows = np.repeat(subnetwork.heads[number], width)
        units = np.repeat(subnetwork.mlps[number], layer.mlp_in.out_features)
        last = np.repeat(subnetwork.mlps[number], layer.mlp_out.out_features)
        biases = np.ones(layer.output.out_features, dtype=bool)
        for path, weight, bias, dimension in (
            (architecture.query, rows, rows, 0),
            (architecture.key, rows, rows, 0),
            (architecture.value, rows, rows, 0),
            (architecture.output, rows, biases, 1),
            (architecture.mlp_in, units, units, 0),
            (architecture.mlp_out, units, last, 1),
        ):
            stem = f"{base}.{architecture.layers}.{number}.{path}"
            found[f"{stem}.weight"] = dimension, torch.from_numpy(np.flatnonzero(weight))
            found[f"{stem}.bias"] = 0, torch.from_numpy(np.flatnonzero(bias))
    return found


def _name_without_heads(whole: PreTrainedModel, name: str) -> str:
    """Where `gates.remove` leaves W_O in a layer without heads, if `attention` applies it."""
    architecture = architecture_of(whole)
    return name.replace(f".{architecture.output}.", f".{architecture.attention}.projection.")
