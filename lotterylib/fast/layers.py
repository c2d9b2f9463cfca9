"""Layers that compute no more than they must: no padding, and no words that never occur.

Unpadded: everything in a layer but attention treats tokens one by one, so a batch's tokens go
through it as one long row, and only attention puts them back into their examples. Results are those
of padded batches, up to rounding; dropout draws other masks.

Compact embedding: the gradients of words that never occur are zero, and without weight decay AdamW
leaves them where they are. So a table with only the rows that occur gives the same updates.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import sdpa_mask

from lotterylib.batches import Encoded
from lotterylib.encoder import architecture_of, stack_of

_NAME = "lottery_unpadded"


@contextmanager
def unpadded(model: PreTrainedModel) -> Iterator[None]:
    """Within it, the model's layers compute the tokens of a batch and leave its padding aside.

    For one model at a time: transformers knows attention functions by name only. The model, which
    may have lost heads and MLPs, is handed padded batches with an `attention_mask`; its outputs
    stay padded, with zeros there. Models with an attention of their own (MPNet) compute as before.
    """
    if architecture_of(model).heads_share_bias:
        yield
        return
    layers = stack_of(model)
    batch = _Batch()
    AttentionInterface.register(_NAME, batch.attend)
    AttentionMaskInterface.register(_NAME, sdpa_mask)
    before = model.config._attn_implementation
    hooks = (
        model.base_model.register_forward_pre_hook(batch.begin, with_kwargs=True),
        layers[0].register_forward_pre_hook(batch.pack),
        layers[-1].register_forward_hook(batch.unpack),
    )
    model.config._attn_implementation = _NAME
    try:
        yield
    finally:
        model.config._attn_implementation = before
        for hook in hooks:
            hook.remove()


class _Batch:
    """The batch that is on its way through the layers."""

    def begin(self, _module: nn.Module, _given: tuple, named: dict[str, Any]) -> None:
        mask = named["attention_mask"]
        self.shape: tuple[int, int] = mask.shape
        self.own = mask.flatten().nonzero().squeeze(1)  # the places of tokens that are no padding

    def pack(self, _module: nn.Module, given: tuple) -> tuple:
        hidden, *others = given
        return hidden.flatten(0, 1).index_select(0, self.own).unsqueeze(0), *others

    def unpack(self, _module: nn.Module, _given: tuple, output: torch.Tensor) -> torch.Tensor:
        return self._padded(output[0])

    def _padded(self, tokens: torch.Tensor) -> torch.Tensor:
        places = tokens.new_zeros(self.shape[0] * self.shape[1], *tokens.shape[1:])
        return places.index_copy(0, self.own, tokens).unflatten(0, self.shape)

    def attend(
        self,
        _module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        dropout: float = 0.0,
        scaling: float | None = None,
        **_: object,
    ) -> tuple[torch.Tensor, None]:
        """Attention within examples; all three are float[1, heads, tokens, head size]."""
        query, key, value = (
            self._padded(part[0].transpose(0, 1)).transpose(1, 2) for part in (query, key, value)
        )
        output = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=attention_mask, dropout_p=dropout, scale=scaling
        )
        return output.transpose(1, 2).flatten(0, 1).index_select(0, self.own).unsqueeze(0), None


@contextmanager
def compact_embedding(model: PreTrainedModel, split: Encoded) -> Iterator[torch.Tensor]:
    """Within it, the model's embedding holds only the tokens of a split; then it is whole again.

    Yields:
        int64[vocabulary]: the id to hand to the model in place of each token's own, -1 for
        those that do not occur.
    """
    table = model.get_input_embeddings()
    assert isinstance(table, nn.Embedding)
    pad = split.tokenizer.pad_token_id
    # Some families tell positions by the id of the padding, so up to there all ids stay.
    used = {*range(pad + 1), *(i for feature in split.features for i in feature["input_ids"])}
    rows = torch.tensor(sorted(used), device=table.weight.device)
    own = nn.Embedding.from_pretrained(
        table.weight.detach()[rows], freeze=False, padding_idx=table.padding_idx
    )
    ids = torch.full((table.num_embeddings,), -1, device=rows.device)
    ids[rows] = torch.arange(len(rows), device=rows.device)
    model.set_input_embeddings(own)
    try:
        yield ids
    finally:
        with torch.no_grad():
            table.weight[rows] = own.weight
        model.set_input_embeddings(table)
