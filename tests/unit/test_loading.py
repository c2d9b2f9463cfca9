"""Loading: the task layer depends on the seed, the encoder never does."""

import shutil

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from lotterylib.batches import encode
from lotterylib.data.loading import checked, load_model, load_tokenizer
from lotterylib.data.pretrained import find_encoder
from lotterylib.encoder import ARCHITECTURES
from lotterylib.errors import LotteryError
from lotterylib.tasks import find_task
from tests.models import KINDS, change_json, family, tokenizer_of
from tests.small import small_experiment

RTE = find_task("rte")


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


def test_the_seed_decides_the_task_layer_and_nothing_else(saved_encoder, tiny_model):
    made = []
    for seed in (1, 1, 2):
        torch.manual_seed(len(made))  # the global generator decides nothing
        made.append(split_off(load_model(saved_encoder, RTE, seed)))
    one, twin, other = made
    assert same(one[0], other[0])
    assert same(one[1], twin[1])
    assert one[1].keys() == {"classifier.weight", "classifier.bias"}
    assert not torch.equal(one[1]["classifier.weight"], other[1]["classifier.weight"])
    assert same(one[0], split_off(tiny_model(seed=9))[0])


def test_an_encoder_that_never_learnt_has_fresh_weights_throughout(saved_encoder):
    learnt = load_model(saved_encoder, RTE, 1)
    one, twin, other = (load_model(saved_encoder, RTE, seed, False) for seed in (1, 1, 2))
    assert same(one.state_dict(), twin.state_dict())
    assert one.config.to_diff_dict() == learnt.config.to_diff_dict()
    matrices = [name for name, weight in one.named_parameters() if weight.dim() == 2]
    assert len(matrices) > 20
    for name in matrices:
        weights = [model.get_parameter(name) for model in (one, other, learnt)]
        assert len({tuple(weight.flatten().tolist()) for weight in weights}) == 3, name
        assert weights[0].std().item() == pytest.approx(one.config.initializer_range, rel=0.35)
    assert not one.training


# Whether model, tokenizer and library fit each other.


def opened(folder):
    encoder = find_encoder(str(folder))
    return checked(encoder), load_tokenizer(encoder)


def said(folder):
    """What is told of an encoder besides where it is from."""
    return opened(folder)[0].origin.removeprefix("a local directory").removeprefix("; ")


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_every_family_reads_as_transformers_does(model_type, tmp_path):
    folder = family(tmp_path, model_type)
    before = sorted((file.name, file.read_bytes()) for file in folder.iterdir())
    encoder, tokenizer = opened(folder)
    assert sorted((file.name, file.read_bytes()) for file in folder.iterdir()) == before
    assert encoder.origin == "a local directory"
    pair = "The pilot that the judge saw slept.", "No one came."
    found = tokenizer(*pair)
    assert found["input_ids"] == AutoTokenizer.from_pretrained(folder)(*pair)["input_ids"]
    assert ("token_type_ids" in found) == (model_type in ("bert", "electra"))
    assert tokenizer.unk_token_id not in found["input_ids"]
    model, most = load_model(encoder, RTE, 0), tokenizer.model_max_length
    longest = torch.full((1, most), tokenizer.sep_token_id)
    assert torch.isfinite(model(input_ids=longest).logits).all()
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.full((1, most + 1), tokenizer.sep_token_id))


@pytest.mark.parametrize(("model_type", "length"), [("bert", 40), ("roberta", 38), ("mpnet", 38)])
def test_fewer_positions_cut_the_texts(model_type, length, tmp_path):
    folder = family(tmp_path, model_type, max_position_embeddings=40)
    encoder, tokenizer = opened(folder)
    told = f"texts are cut at {length} tokens, the most that model and tokenizer take"
    assert encoder.origin.endswith(told)
    assert told not in checked(find_encoder(str(folder)), length).origin  # none asks for more
    long = ["the judge slept " * 60]
    rows = Dataset.from_dict({"sentence1": long, "sentence2": long, "label": [0]})
    assert encode(rows, RTE, tokenizer).lengths == [length]
    assert encode(rows, RTE, tokenizer, 20).lengths == [20]


def test_a_tokenizer_that_cuts_earlier_is_followed(tmp_path):
    file = family(tmp_path, "bert") / "tokenizer_config.json"
    for length in (64, 5):
        change_json(file, model_max_length=length)
        assert said(tmp_path).startswith(f"texts are cut at {length} tokens")
    change_json(file, model_max_length=4)
    with pytest.raises(LotteryError, match="reads 4 tokens at most: a pair of texts takes at leas"):
        opened(tmp_path)


def test_token_types_that_the_tokenizer_would_leave_out_are_given(tmp_path):
    folder = family(tmp_path, "bert")
    change_json(folder / "tokenizer_config.json", model_input_names=["input_ids", "attention_mask"])
    encoder, tokenizer = opened(folder)
    assert encoder.origin.endswith("token types are given, which the model knows")
    assert 1 in tokenizer("a", "b")["token_type_ids"]


CAPITALS = "The JUDGE slept."


def leave_vocabulary(folder):
    """A directory without `tokenizer.json`, as old ones are."""
    vocabulary = AutoTokenizer.from_pretrained(folder).get_vocab()
    (folder / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.get)) + "\n")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()


@pytest.mark.parametrize("model_type", ["bert", "mpnet"])
def test_capitals_are_kept_where_nothing_says_otherwise(model_type, tmp_path):
    """Neither `tokenizer.json` nor a bare vocabulary with capitals is read in lower case."""
    folder = family(tmp_path, model_type, lowercase=False)
    wanted = opened(folder)[1].tokenize(CAPITALS)
    change_json(folder / "tokenizer_config.json", "do_lower_case")
    assert opened(folder)[1].tokenize(CAPITALS) == wanted != load_lower(folder)
    leave_vocabulary(folder)
    encoder, tokenizer = opened(folder)
    assert tokenizer.tokenize(CAPITALS) == wanted
    assert "capitals are kept, since its vocab.txt has some" in encoder.origin
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    encoder, tokenizer = opened(folder)
    assert tokenizer.tokenize(CAPITALS) == load_lower(folder)
    assert "in lower case as its tokenizer says, but it knows capitals" in encoder.origin


def load_lower(folder):
    return AutoTokenizer.from_pretrained(folder, do_lower_case=True).tokenize(CAPITALS)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("is_decoder", True),
        ("output_hidden_states", True),
        ("torchscript", True),
        ("_attn_implementation", "flash_attention_2"),
    ],
)
def test_settings_of_a_run_are_not_followed(setting, value, tmp_path):
    folder = family(tmp_path, "bert")
    plain = load_model(find_encoder(str(folder)), RTE, 0)
    change_json(folder / "config.json", **{setting: value})
    encoder, tokenizer = opened(folder)
    assert said(folder) == f"{setting} = {value} in its config.json is not followed"
    inputs = tokenizer("The pilot slept.", "No one came.", return_tensors="pt")
    found = load_model(encoder, RTE, 0)(**inputs)
    assert torch.equal(found.logits, plain(**inputs).logits)
    assert set(found) == {"logits"}


def test_texts_are_cut_on_the_right(tmp_path):
    folder = family(tmp_path, "bert")
    change_json(folder / "tokenizer_config.json", truncation_side="left")
    assert said(folder) == "truncation_side in its tokenizer_config.json is not followed"
    tokenizer = opened(folder)[1]
    cut = tokenizer("the judge slept", truncation=True, max_length=4)["input_ids"]
    assert cut[:-1] == tokenizer("the judge slept")["input_ids"][:3]


def test_shards_are_read(tmp_path):
    one, many = family(tmp_path / "one", "bert"), family(tmp_path / "many", "bert", shard="20KB")
    assert len(list(many.glob("*.safetensors"))) > 1
    assert same(*(load_model(opened(f)[0], RTE, 0).state_dict() for f in (one, many)))


@pytest.mark.parametrize("model_type", KINDS)
def test_a_task_layer_that_the_file_has_is_left_out(model_type, tmp_path):
    folder = family(tmp_path / "plain", model_type)
    plain = find_encoder(str(folder))
    shutil.copytree(folder, tmp_path / "tuned")
    load_model(plain, RTE, 5).save_pretrained(tmp_path / "tuned")
    tuned, _ = opened(tmp_path / "tuned")
    assert tuned.origin == "a local directory; its own task layer is left out"
    for task in (RTE, find_task("mnli")):
        one, twin, other = (split_off(load_model(tuned, task, seed)) for seed in (1, 1, 2))
        assert same(one[1], twin[1])
        assert not same(one[1], other[1])
        if model_type != "bert":  # whose pooler is drawn before the classifier where it is lacking
            assert same(one[0], split_off(load_model(plain, task, 1))[0])


def test_only_the_pooler_may_be_lacking(tmp_path):
    folder = family(tmp_path, "bert")
    weights = load_file(folder / "model.safetensors")

    def without(part):
        left = {name: value for name, value in weights.items() if part not in name}
        save_file(left, folder / "model.safetensors", {"format": "pt"})

    without("pooler")
    assert said(folder) == "its pooler, which the file lacks, is drawn with the task layer"
    without("layer.1.output.dense.bias")
    with pytest.raises(LotteryError, match=r"weights lack bert\.encoder\.layer\.1\.output\.dense"):
        opened(folder)


DENSE = "encoder.layer.1.output.dense.weight"


@torch.no_grad()
def fill(model, value, name="", count=None):
    for each, parameter in model.named_parameters():
        if name in each:
            parameter.flatten()[:count] = value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((float("nan"), DENSE, 1), rf"hold numbers that are none.*in bert\.{DENSE}"),
        ((float("inf"), DENSE, 1), rf"hold numbers that are none.*in bert\.{DENSE}"),
        ((3e38, DENSE), "computes numbers that are none"),
        ((0.0,), "computes the same whatever it reads"),
    ],
)
def test_weights_that_compute_nothing_are_refused(change, message, tmp_path):
    folder = family(tmp_path, "bert", weights=lambda model: fill(model, *change))
    with pytest.raises(LotteryError, match=message):
        opened(folder)


@pytest.mark.parametrize(
    ("model_type", "changes", "message"),
    [
        ("bert", {"tokenizer_class": "GPT2Tokenizer"}, "reads .* words of its own vocab.*GPT2"),
        ("bert", {"pad_token": None}, "has no token for padding"),
        ("bert", {"tokenizer_class": "PreTrainedTokenizerFast"}, r"sets no token before.*\[CLS\]"),
        ("roberta", {"pad_token": "<s>"}, r"pads with id 0, .* by the padding's id 1"),
        ("mpnet", {"pad_token": "<s>"}, r"pads with id 0, .* by the padding's id 1"),
    ],
)
def test_a_tokenizer_of_another_kind_is_refused(model_type, changes, message, tmp_path):
    folder = family(tmp_path, model_type)
    if "sets" in message:
        change_json(folder / "tokenizer.json", post_processor=None)
    change_json(folder / "tokenizer_config.json", **changes)
    with pytest.raises(LotteryError, match=message):
        opened(folder)


def test_the_tokenizer_of_another_encoder_is_refused_or_told(tmp_path):
    large = tokenizer_of("roberta")
    assert len(large) > 300
    for rows in (300, len(large) - 1):
        folder = family(tmp_path / f"{rows}", "roberta", tokenizer=large, vocab_size=rows)
        with pytest.raises(LotteryError, match=rf"a token of id .* only {rows} rows of embeddings"):
            opened(folder)
    folder = family(tmp_path / "more", "roberta", tokenizer=large, vocab_size=1000)
    assert said(folder) == f"its tokenizer knows {len(large)} of the model's 1,000 tokens"


def test_a_tokenizer_of_bytes_may_be_of_any_script(tmp_path):
    made = tokenizer_of("roberta", sentences=["судья увидел пилота", "никто не пришёл"] * 30)
    assert sum(token.isascii() for token in made.get_vocab()) < len(made) / 2
    assert said(family(tmp_path, "roberta", tokenizer=made)) == ""


def test_an_encoder_of_ones_own_is_computed_with(tmp_path, small_runs):
    folder = family(tmp_path / "own", "bert", type_vocab_size=1, max_position_embeddings=24)
    made = small_experiment(tmp_path / "runs", task="entailment", encoder=str(folder))
    assert max(made.splits[0].lengths) <= 24
    scores = made.baseline("bag"), made.full_score(3), made.score(3, "structured", "bad", "pruned")
    assert all(0 <= score.metrics["accuracy"] <= 1 for score in scores)
