"""The vocabulary of a split: while training, the embedding need not hold words that never occur.

Their gradients are zero, and without weight decay AdamW leaves them where they are. So a table with
only the rows that occur gives the same updates and spares the time for the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from transformers import PreTrainedModel

from lotterylib.batches import Encoded


@contextmanager
def all_words(model: PreTrainedModel) -> Iterator[torch.Tensor]:
    """As `own_vocabulary`, but the embedding stays whole and ids what they are."""
    table = model.get_input_embeddings()
    assert isinstance(table, nn.Embedding)
    yield torch.arange(table.num_embeddings, device=table.weight.device)


@contextmanager
def own_vocabulary(model: PreTrainedModel, split: Encoded) -> Iterator[torch.Tensor]:
    """Within it, the model's embedding holds only the word pieces of a split.

    Args:
        model: its embedding is whole again afterwards, with the rows that were trained.
        split: what the model will read; nothing else.

    Yields:
        int64[vocabulary]: the id to hand to the model in place of each word piece's own, -1 for
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
