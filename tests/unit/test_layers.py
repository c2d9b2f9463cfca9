"""Leaving aside the padding, and words that never occur, changes nothing."""

import copy

import numpy as np
import pytest
import torch
from datasets import Dataset

from lotterylib.batches import encode
from lotterylib.encoder import layers_of
from lotterylib.fast.layers import compact_embedding, unpadded
from lotterylib.gates import remove
from lotterylib.subnetworks import StructuredSubnetwork
from lotterylib.tasks import find_task
from tests.models import KINDS


def gradients(model, inputs):
    model.zero_grad()
    logits = model(**inputs).logits
    logits.square().sum().backward()
    given = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return logits.detach(), {name: gradient.clone() for name, gradient in given.items()}


@pytest.mark.parametrize("family", KINDS)
@pytest.mark.parametrize("removed", [False, True], ids=["whole", "removed"])
def test_logits_and_gradients_are_those_of_padded_batches(
    family, removed, family_model, family_inputs
):
    model = family_model(family, "eager" if family == "mpnet" else "sdpa")
    if removed:
        heads = np.ones((3, 4), dtype=bool)
        heads[0, 1] = heads[1, :] = False
        remove(model, StructuredSubnetwork(heads, np.array([True, False, True])))
    inputs = family_inputs(model)
    before = model.config._attn_implementation
    logits, expected = gradients(model, inputs)
    with unpadded(model):
        found, got = gradients(model, inputs)
    torch.testing.assert_close(found, logits, rtol=1e-5, atol=1e-6)
    assert got.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-4, atol=1e-5)
    assert model.config._attn_implementation == before
    torch.testing.assert_close(model(**inputs).logits, logits, rtol=0, atol=0)


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_dense_layers_see_the_batchs_own_tokens_only(family, family_model, family_inputs):
    model = family_model(family, "sdpa")
    inputs, seen = family_inputs(model), set()

    def note(_module, given, _output):
        seen.add(given[0].shape[:-1].numel())

    for layer in layers_of(model):
        for dense in (layer.query, layer.output, layer.mlp_in, layer.mlp_out):
            dense.register_forward_hook(note)
    own = int(inputs["attention_mask"].sum())
    with torch.no_grad(), unpadded(model):
        model(**inputs)
    assert seen == {own} != {inputs["attention_mask"].numel()}


@pytest.mark.parametrize("family", KINDS)
def test_the_model_reads_the_same_through_the_new_ids(family, family_model, family_inputs, encoded):
    split, model = encoded("acceptability", 4), family_model(family)
    inputs = family_inputs(model)
    tokenizer = copy.deepcopy(split.tokenizer)
    tokenizer.pad_token_id = model.config.pad_token_id
    rows = [{"input_ids": ids.tolist()} for ids in inputs["input_ids"]]
    wanted = model(**inputs).logits
    with compact_embedding(model, type(split)(rows, split.labels, tokenizer)) as ids:
        assert model.get_input_embeddings().num_embeddings < len(ids)
        found = model(**inputs | {"input_ids": ids[inputs["input_ids"]]}).logits
    assert torch.equal(found, wanted)


def test_the_table_is_whole_after_a_failure_and_has_no_place_for_other_words(
    tiny_model, tiny_tokenizer
):
    model = tiny_model("acceptability")
    before = model.get_input_embeddings()
    rows = Dataset.from_dict({"sentence": ["aa"], "label": [0]})
    own = encode(rows, find_task("cola"), tiny_tokenizer)
    with compact_embedding(model, own) as ids:
        assert ids[tiny_tokenizer("z")["input_ids"][1]] == -1
        assert ids[tiny_tokenizer("a")["input_ids"][1]] >= 0
    with pytest.raises(ZeroDivisionError), compact_embedding(model, own):
        raise ZeroDivisionError
    assert model.get_input_embeddings() is before
