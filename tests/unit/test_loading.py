"""Loading: the task layer depends on the seed, the encoder never does."""

import pytest
import torch
from transformers.utils import logging as transformers_logging

from lotterylib.data.loading import load_model, load_tokenizer, quiet_transformers
from lotterylib.data.pretrained import find_encoder
from lotterylib.tasks import find_task


def split_off(model):
    """The state of the encoder and that of the task layer."""
    state = model.state_dict()
    inside = {name for name in state if name.startswith(f"{model.base_model_prefix}.")}
    return {n: state[n] for n in inside}, {n: state[n] for n in state.keys() - inside}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


@pytest.fixture(scope="module")
def saved_encoder(tmp_path_factory, tiny_model, tiny_tokenizer):
    """A pre-trained model directory: an encoder without a task layer, as on the hub."""
    folder = tmp_path_factory.mktemp("models") / "small"
    tiny_model(seed=9).base_model.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return find_encoder(str(folder))


def test_the_tiny_model_depends_on_its_seed(tiny_encoder):
    task = find_task("rte")
    one, twin, other = (load_model(tiny_encoder, task, seed).state_dict() for seed in (1, 1, 2))
    assert same(one, twin)
    assert not torch.equal(one["classifier.weight"], other["classifier.weight"])


def test_the_seed_decides_the_task_layer_and_nothing_else(saved_encoder, tiny_model):
    task = find_task("rte")
    one, twin, other = (split_off(load_model(saved_encoder, task, seed)) for seed in (1, 1, 2))
    assert same(one[0], other[0])
    assert same(one[1], twin[1])
    assert one[1].keys() == {"classifier.weight", "classifier.bias"}
    assert not torch.equal(one[1]["classifier.weight"], other[1]["classifier.weight"])
    assert same(one[0], split_off(tiny_model(seed=9))[0])


def test_the_seed_decides_the_task_layer_of_real_weights_and_nothing_else(minilm):
    task = find_task("cola")
    one, twin, other = (split_off(load_model(minilm, task, seed)) for seed in (1, 1, 2))
    assert same(one[0], twin[0])
    assert same(one[0], other[0])
    assert same(one[1], twin[1])
    assert not torch.equal(one[1]["classifier.weight"], other[1]["classifier.weight"])


@pytest.mark.parametrize(("task", "outputs"), [("rte", 2), ("mnli", 3), ("stsb", 1)])
def test_the_task_decides_the_number_of_logits(task, outputs, tiny_encoder, saved_encoder):
    for encoder in (tiny_encoder, saved_encoder):
        model = load_model(encoder, find_task(task), 0)
        assert model.classifier.out_features == outputs
        assert model.dtype == torch.float32
        assert model.device.type == "cpu"
        assert not model.training


def test_an_encoder_that_never_learnt_has_fresh_weights_throughout(saved_encoder):
    task = find_task("rte")
    learnt = load_model(saved_encoder, task, 1)
    one, twin, other = (load_model(saved_encoder, task, seed, False) for seed in (1, 1, 2))
    assert same(one.state_dict(), twin.state_dict())
    assert one.config.to_diff_dict() == learnt.config.to_diff_dict()
    matrices = [name for name, weight in one.named_parameters() if weight.dim() == 2]
    assert len(matrices) > 20
    for name in matrices:
        weights = [model.get_parameter(name) for model in (one, other, learnt)]
        assert len({tuple(weight.flatten().tolist()) for weight in weights}) == 3, name
        assert weights[0].std().item() == pytest.approx(one.config.initializer_range, rel=0.35)
    assert not one.training


def test_fresh_weights_are_those_of_no_file(saved_encoder, tiny_encoder):
    """The random encoder is the same either way, and a stored half precision plays no part."""
    task = find_task("rte")
    pair = [load_model(tiny_encoder, task, 3, pretrained).state_dict() for pretrained in (0, 1)]
    assert same(*pair)
    config = saved_encoder.directory / "config.json"
    before = config.read_text()
    try:
        config.write_text(before.replace('"float32"', '"float16"'))
        assert config.read_text() != before
        assert load_model(saved_encoder, task, 0, pretrained=False).dtype == torch.float32
    finally:
        config.write_text(before)


def test_the_global_generator_is_left_alone(tiny_encoder, saved_encoder):
    torch.manual_seed(123)
    before = torch.get_rng_state()
    for encoder in (tiny_encoder, saved_encoder):
        for pretrained in (True, False):
            load_model(encoder, find_task("rte"), 0, pretrained)
            assert torch.equal(torch.get_rng_state(), before)


def test_the_generator_does_not_decide_the_model(saved_encoder):
    models = []
    for state in (1, 2):
        torch.manual_seed(state)
        models.append(load_model(saved_encoder, find_task("rte"), 0).state_dict())
    assert same(*models)


def test_the_tokenizer_reads_characters(tiny_encoder):
    tokenizer = load_tokenizer(tiny_encoder)
    pieces = tokenizer("Ab, c!", "é")["input_ids"]
    wanted = ["[CLS]", "a", "b", ",", " ", "c", "!", "[SEP]", "[UNK]", "[SEP]"]
    assert tokenizer.convert_ids_to_tokens(pieces) == wanted
    model = load_model(tiny_encoder, find_task("rte"), 0)
    assert len(tokenizer) <= model.config.vocab_size


def test_a_saved_tokenizer_reads_the_same(saved_encoder, tiny_tokenizer):
    text = "The pilots that the judge saw were tall."
    assert load_tokenizer(saved_encoder)(text)["input_ids"] == tiny_tokenizer(text)["input_ids"]


def test_loading_is_silent_and_leaves_the_verbosity(saved_encoder, capfd):
    transformers_logging.set_verbosity_warning()
    load_model(saved_encoder, find_task("rte"), 0)
    assert transformers_logging.get_verbosity() == transformers_logging.WARNING
    printed = capfd.readouterr()
    assert "classifier" not in printed.out + printed.err
    with pytest.raises(ZeroDivisionError), quiet_transformers():
        raise ZeroDivisionError
    assert transformers_logging.get_verbosity() == transformers_logging.WARNING
    assert transformers_logging.is_progress_bar_enabled()
