"""Hostile input: nothing of it is executed, nothing of it leaves the store, no shell reads it."""

import ast
import json
import string
from contextlib import contextmanager
from pathlib import Path

import nbformat
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from lotterylib import cli, commands
from lotterylib.data.attention_maps import FOLDER, LabelledMaps, load_labelled
from lotterylib.data.files import MANIFEST, checksums, write_json
from lotterylib.data.glue import TaskData, load_data
from lotterylib.data.loading import load_model, load_tokenizer
from lotterylib.data.pretrained import Encoder, find_encoder, folder_of
from lotterylib.errors import LotteryError
from lotterylib.pattern_cnn import PatternCNN, load_cnn, save_cnn
from lotterylib.report.imported import read_masks
from lotterylib.runs.settings import Settings, parse_settings
from lotterylib.runs.store import Key, RunStore, load_subnetwork, save_subnetwork
from lotterylib.subnetworks import StructuredSubnetwork, Subnetwork, WeightSubnetwork
from lotterylib.tasks import find_task

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "lotterylib").rglob("*.py"))
TEMPLATES = sorted((ROOT / "notebooks").glob("*.ipynb"))
READERS_OF_CODE = {
    *("eval", "exec", "compile", "__import__", "pickle", "cPickle", "dill", "cloudpickle"),
    *("joblib", "marshal", "shelve", "torch.load", "pandas.read_pickle", "pd.read_pickle"),
    *("os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "yaml.full_load"),
}
FEW = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@contextmanager
def sentence_about(*places):
    """Within it nothing may be raised but a sentence, which names one of these."""
    try:
        yield
    except LotteryError as error:
        if not any(str(place) in str(error) for place in places or ("",)):
            raise


# What is read.


def trees():
    for path in SOURCES:
        yield path.name, ast.parse(path.read_text(encoding="utf-8"))
    for path in TEMPLATES:
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                yield path.name, ast.parse(cell.source)


def found_in(tree):
    """The names of what a module uses that could run code it reads, or a shell."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Call):
            yield ast.unparse(node.func)
            for keyword in node.keywords:
                yield f"{keyword.arg}={ast.unparse(keyword.value)}"


def test_nothing_reads_code_or_calls_a_shell():
    used = [(name, each) for name, tree in trees() for each in found_in(tree)]
    assert [each for each in used if each[1] in READERS_OF_CODE] == []
    refused = {"shell=True", "allow_pickle=True", "trust_remote_code=True", "weights_only=False"}
    assert [each for each in used if each[1] in refused] == []
    bad = "import pickle\nnp.load(f, allow_pickle=True)\nsubprocess.run(c, shell=True)\neval(t)"
    found = set(found_in(ast.parse(bad)))  # what this looks for would be found
    assert found >= {"pickle", "allow_pickle=True", "shell=True", "eval"}


def test_whoever_loads_arrays_or_models_says_that_no_code_comes_with_them():
    for name, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called, given = ast.unparse(node.func), {each.arg for each in node.keywords}
                if called in ("np.load", "numpy.load"):
                    assert "allow_pickle" in given, name
                if called.startswith("Auto") and called.endswith(".from_pretrained"):
                    assert "trust_remote_code" in given, name


# Model directories with code of their own, or with weights that are none.


@pytest.fixture
def model_directory(family_model, tiny_tokenizer, tmp_path):
    """A factory of small models with changed files."""

    def build(config=None, tokenizer=None, weights=None):
        folder = tmp_path / "model"
        family_model("bert").save_pretrained(folder)
        tiny_tokenizer.save_pretrained(folder)
        for name, change in (("config.json", config), ("tokenizer_config.json", tokenizer)):
            content = json.loads((folder / name).read_text())
            (folder / name).write_text(json.dumps(content | (change or {})))
        if weights is not None:
            weights(folder / "model.safetensors")
        return folder

    return build


def test_code_of_a_model_directory_is_never_executed(model_directory, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    names = {
        each: f"evil.{each}"
        for each in ("AutoConfig", "AutoModel", "AutoModelForSequenceClassification")
    }
    folder = model_directory(
        config={"auto_map": names, "architectures": ["Evil"]},
        tokenizer={"auto_map": {"AutoTokenizer": ["evil.Slow", "evil.Fast"]}},
    )
    harm = tmp_path / "harm"
    (folder / "evil.py").write_text(f"open({str(harm)!r}, 'w').close()\n")
    encoder = find_encoder(str(folder))
    for load in (
        lambda: load_model(encoder, find_task("rte"), 0),
        lambda: load_model(encoder, find_task("rte"), 0, pretrained=False),
        lambda: load_tokenizer(encoder),
    ):
        with sentence_about(folder):
            load()
        assert not harm.exists()


def halve(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def claim_too_much(file):
    """A header that says it is longer than any file."""
    file.write_bytes((2**63).to_bytes(8, "little") + file.read_bytes()[8:])


def pickled(file):
    file.write_bytes(b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94.")


def of_another(file):
    save_file({"something": np.zeros(3, np.float32)}, file)


@pytest.mark.parametrize("spoil", [halve, claim_too_much, pickled, of_another])
def test_weights_that_are_none_are_a_sentence(spoil, model_directory):
    folder = model_directory(weights=spoil)
    with pytest.raises(LotteryError, match=str(folder)):
        load_model(find_encoder(str(folder)), find_task("rte"), 0)


@pytest.mark.parametrize(
    "config",
    [
        {"num_hidden_layers": 30},
        {"num_hidden_layers": 1},
        {"hidden_size": 48},
        {"hidden_size": "x"},
        {"num_attention_heads": 7},
    ],
)
def test_a_configuration_of_other_weights_is_a_sentence(config, model_directory):
    folder = model_directory(config=config)
    with pytest.raises(LotteryError, match=str(folder)):
        load_model(find_encoder(str(folder)), find_task("rte"), 0)


@FEW
@given(
    content=st.binary(max_size=80)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["model_type", "a"]), inner, max_size=2)
        ),
        max_leaves=6,
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_configuration_is_an_encoders_or_a_sentence(content, tmp_path):
    for name in ("model.safetensors", "vocab.txt"):
        (tmp_path / name).write_text("x")
    (tmp_path / "config.json").write_bytes(content)
    with sentence_about(tmp_path):
        assert isinstance(find_encoder(str(tmp_path)), Encoder)


def test_a_configuration_nested_without_end_is_a_sentence(tmp_path):
    (tmp_path / "model.safetensors").write_text("x")
    (tmp_path / "config.json").write_text("[" * 200_000)
    with pytest.raises(LotteryError, match=r"config\.json is not a model's configuration"):
        find_encoder(str(tmp_path))


# Names.

names = st.text(max_size=20) | st.sampled_from(
    [
        *("..", ".", "", "/", "../x", "a/../../b", "/etc", "~", "a\0b"),
        *("-x", "CON", "a\nb", "é", "$(x)", "a" * 300),
    ]
)


@FEW
@given(encoder=names, task=names, stage=names, seed=st.integers(0, 2**32))
def test_no_name_leads_out_of_the_store(encoder, task, stage, seed, tmp_path):
    try:
        key = Key(encoder, task, stage, {}, seed)
    except LotteryError:
        return
    root = tmp_path.resolve()
    place = (root / key.path).resolve()
    assert place.is_relative_to(root)
    assert len(place.relative_to(root).parts) == 4
    store = RunStore(root)
    store.record_failure(key, LotteryError("a reason"))
    assert store.failure(key) == "a reason"
    assert {path.name for path in root.iterdir()} == {".failed"}


@FEW
@given(name=names)
def test_any_path_of_an_encoder_makes_a_name_fit_for_a_folder(name):
    try:
        folder = folder_of(name)
    except (ValueError, OSError):  # no path at all
        assert "\0" in name
        return
    Key(folder, "rte", "search", {}, 0)


@FEW
@given(task=names, encoder=names)
def test_hostile_names_are_refused_before_anything_is_made(task, encoder, tmp_path, capsys):
    store = tmp_path / "runs"
    for asked in ([f"--encoder={encoder}", "rte"], ["--", task or "x"]):
        assert cli.main(["run", f"--store={store}", "--no-pages", *asked]) == 2
        assert capsys.readouterr().err.startswith("lottery: ")
    assert list(tmp_path.iterdir()) == []


# Parsers: whatever they are given, they return what they promise or say a sentence.

numbers = st.integers() | st.floats()
values = names | numbers | st.none() | st.booleans() | st.lists(st.integers() | names)


@settings(max_examples=300, deadline=None)
@given(changes=st.dictionaries(st.sampled_from(tuple(Settings.model_fields)), values, max_size=2))
def test_any_parameters_are_settings_or_a_sentence(changes):
    with sentence_about():
        made = parse_settings(**({"task": "rte"} | changes))
        assert isinstance(made, Settings)
        assert str(made.store)


words = st.text(string.printable, max_size=12) | st.sampled_from(
    ["--seeds", "--set", "--config", "--draws=", "--with", "--jobs=2", "--pages"]
)


@FEW
@given(
    command=st.sampled_from(["run", "plan", "status", "results", "list"]),
    arguments=st.lists(words, max_size=4),
)
def test_any_command_line_is_understood_or_refused(
    command, arguments, tmp_path_factory, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path_factory.mktemp("empty"))
    for name in ("run", "plan", "status"):
        monkeypatch.setattr(commands, name, lambda options: 0 * len(commands._settings(options)))
    for name in ("results", "show_choices"):
        monkeypatch.setattr(commands, name, lambda options: 0)
    try:
        assert cli.main([command, *arguments]) in (0, 2)
    except SystemExit as stopped:  # --help
        if stopped.code not in (0, 2):
            raise
    assert "Traceback" not in capsys.readouterr().err


def mutated(content, edits, length):
    """Bytes with some of them replaced, cut to a share of their length."""
    content = bytearray(content)
    for place, value in edits:
        content[int(place * len(content)) % len(content)] = value
    return bytes(content[: int(length * len(content))])


edits = st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=6)
early = st.lists(st.tuples(st.floats(0, 0.2), st.integers(0, 255)), min_size=1, max_size=3)
lengths = st.just(1.0) | st.floats(0, 1)


def a_structured(file):
    heads = np.zeros((3, 4), bool)
    heads[1] = True
    save_subnetwork(StructuredSubnetwork(heads, np.ones(3, bool)), file)


def some_weights(file):
    array = np.arange(35).reshape(5, 7) % 2 == 0
    save_subnetwork(WeightSubnetwork({"0.query.weight": array}), file)


@pytest.mark.parametrize("write", [a_structured, some_weights])
@settings(FEW, max_examples=200)
@given(edits=edits | early, length=lengths)
def test_any_file_is_a_subnetwork_or_a_sentence(write, edits, length, tmp_path):
    file = tmp_path / "subnetwork.safetensors"
    write(file)
    file.write_bytes(mutated(file.read_bytes(), edits, length))
    with sentence_about(file):
        assert isinstance(load_subnetwork(file), Subnetwork)


@FEW
@given(edits=early, length=lengths)
def test_any_file_is_a_classifier_or_a_sentence(edits, length, tmp_path):
    file = tmp_path / "cnn.safetensors"
    if not (whole := tmp_path / "whole").exists():
        model = PatternCNN()
        model.validation_accuracy = 0.5
        save_cnn(model, whole)
    content = whole.read_bytes()
    file.write_bytes(mutated(content[:2000], edits, 1) + content[2000 : int(length * len(content))])
    with sentence_about(file):
        assert isinstance(load_cnn(file), PatternCNN)


@FEW
@given(edits=edits | early, length=lengths)
def test_any_array_is_a_mask_or_a_sentence(edits, length, tmp_path):
    folder = tmp_path / "masks" / "heads_mlps" / "RTE" / "seed_1337"
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "head_mask.npy", np.ones((3, 4)))
    np.save(folder / "mlp_mask.npy", np.ones(3))
    file = folder / "head_mask.npy"
    file.write_bytes(mutated(file.read_bytes(), edits, length))
    with sentence_about(folder):
        assert len(read_masks(tmp_path)) == 1


TSV = "sentence1\tsentence2\tscore\n" + "One here.\tAnother.\t3.2\nTwo here.\tA third.\t0.5\n" * 3


@pytest.mark.parametrize("kind", ["tsv", "parquet"])
@settings(FEW, max_examples=100)
@given(edits=edits, length=lengths)
def test_any_table_is_a_tasks_data_or_a_sentence(kind, edits, length, tmp_path):
    task = find_task("stsb")
    root = tmp_path / kind
    if kind == "tsv":
        (root / task.tsv_folder).mkdir(parents=True, exist_ok=True)
        files = [root / task.tsv_folder / name for name in ("train.tsv", "dev.tsv")]
        for file in files:
            file.write_text(TSV)
    else:
        import pandas as pd

        (root / "stsb").mkdir(parents=True, exist_ok=True)
        table = pd.DataFrame({"sentence1": ["a", "b"], "sentence2": ["c", "d"], "label": [1.0, 2]})
        files = [root / "stsb" / name for name in ("train.parquet", "validation.parquet")]
        for file in files:
            table.to_parquet(file)
    files[1].write_bytes(mutated(files[1].read_bytes(), edits, length))
    with sentence_about(files[1], "STS-B"):
        assert isinstance(load_data(task, str(root)), TaskData)


@FEW
@given(edits=edits, length=lengths)
def test_any_labels_are_those_of_the_maps_or_a_sentence(edits, length, tmp_path):
    for name in ("raw.safetensors", "normed.safetensors"):
        if not (tmp_path / name).exists():
            (tmp_path / name).symlink_to(FOLDER / name)
    content = (FOLDER / "labels.csv").read_bytes()
    (tmp_path / "labels.csv").write_bytes(mutated(content, edits, length))
    write_json(tmp_path / MANIFEST, checksums(tmp_path))
    with sentence_about():
        assert isinstance(load_labelled(tmp_path), LabelledMaps)


# Notebooks: a parameter is data, whatever it says.


def test_parameters_that_look_like_code_stay_texts(tmp_path, monkeypatch):
    from papermill.parameterize import parameterize_notebook

    from lotterylib.runs.settings import given_by

    harm = "'); open('harm', 'w').close(); ('"
    made = parse_settings("rte", encoder="tiny", store=f'runs{harm}\n"""\\$(touch harm)`x`')
    parameters = given_by(made)
    template = nbformat.read(TEMPLATES[0], as_version=4)
    template.metadata["papermill"] = {}
    for cell in template.cells:
        cell.metadata.setdefault("tags", [])
    filled = parameterize_notebook(template, parameters)
    (injected,) = (c for c in filled.cells if "injected-parameters" in c.metadata.get("tags", []))
    monkeypatch.chdir(tmp_path)
    namespace = {}
    for node in ast.parse(injected.source).body:
        namespace[node.targets[0].id] = ast.literal_eval(node.value)  # literals and nothing else
    assert namespace == parameters
