"""A table of only the words that occur gives the same training."""

import pytest
import torch

import lotterylib.finetuning
from lotterylib.batches import encode
from lotterylib.fast.layers import compact_embedding
from lotterylib.finetuning import Recipe, train
from lotterylib.tasks import find_task

RECIPE = Recipe(learning_rate=1e-2, epochs=2, batch_size=4)


@pytest.mark.parametrize("task", ["acceptability", "similarity"])
def test_training_ends_at_the_same_weights_as_with_the_whole_table(
    tiny_model, encoded, task, monkeypatch
):
    split = encoded(task, 12, "train")
    cut, whole = tiny_model(task), tiny_model(task)
    losses = train(cut, split, find_task(task), RECIPE, seed=1)

    def untouched(model, _split):
        return _context(torch.arange(model.get_input_embeddings().num_embeddings))

    monkeypatch.setattr(lotterylib.finetuning, "compact_embedding", untouched)
    assert train(whole, split, find_task(task), RECIPE, seed=1) == pytest.approx(losses, abs=1e-4)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(cut.state_dict()[name], value, rtol=1e-3, atol=2e-4)


class _context:
    def __init__(self, ids):
        self.ids = ids

    def __enter__(self):
        return self.ids

    def __exit__(self, *_):
        return None


def test_the_model_reads_the_same_through_the_new_ids(family_model, family_inputs, encoded):
    split = encoded("acceptability", 4)
    for family in ("bert", "roberta", "electra", "mpnet", "distilbert"):
        model = family_model(family)
        inputs = family_inputs(model)
        rows = [{"input_ids": ids.tolist()} for ids in inputs["input_ids"]]
        split.tokenizer.pad_token_id, kept = model.config.pad_token_id, split.tokenizer.pad_token_id
        try:
            own = type(split)(rows, split.labels, split.tokenizer)
            wanted = model(**inputs).logits
            with compact_embedding(model, own) as ids:
                assert model.get_input_embeddings().num_embeddings < len(ids)
                found = model(**inputs | {"input_ids": ids[inputs["input_ids"]]}).logits
        finally:
            split.tokenizer.pad_token_id = kept
        assert torch.equal(found, wanted), family


def test_the_table_is_whole_again_after_a_failure(tiny_model, encoded):
    model, split = tiny_model("acceptability"), encoded("acceptability", 4)
    before = model.get_input_embeddings()
    with pytest.raises(RuntimeError, match="halfway"), compact_embedding(model, split):
        raise RuntimeError("halfway")
    assert model.get_input_embeddings() is before


def test_a_word_of_another_split_is_marked(tiny_model, tiny_tokenizer, encoded):
    from datasets import Dataset

    own = encode(
        Dataset.from_dict({"sentence": ["aa"], "label": [0]}), find_task("cola"), tiny_tokenizer
    )
    with compact_embedding(tiny_model("acceptability"), own) as ids:
        assert ids[tiny_tokenizer("z")["input_ids"][1]] == -1
        assert ids[tiny_tokenizer("a")["input_ids"][1]] >= 0
