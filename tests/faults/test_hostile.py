"""Hostile input: nothing of it is executed, nothing of it leaves the store, no shell reads it."""

import ast
import json
import string
from contextlib import contextmanager
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from papermill.parameterize import parameterize_notebook
from safetensors.numpy import save

from lotterylib import cli, commands
from lotterylib.data.glue import TaskData, load_data
from lotterylib.data.loading import load_model, load_tokenizer
from lotterylib.data.pretrained import Encoder, find_encoder
from lotterylib.errors import LotteryError
from lotterylib.pattern_cnn import PatternCNN, load_cnn, save_cnn
from lotterylib.report.imported import read_masks
from lotterylib.runs.settings import Settings, given_by, parse_settings
from lotterylib.runs.store import Key, RunStore, load_subnetwork, save_subnetwork
from lotterylib.subnetworks import StructuredSubnetwork, Subnetwork, WeightSubnetwork
from lotterylib.tasks import find_task
from tests.models import change_json

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "lotterylib").rglob("*.py"))
TEMPLATES = sorted((ROOT / "notebooks").glob("*.ipynb"))
READERS_OF_CODE = {
    *("eval", "exec", "compile", "__import__", "pickle", "cPickle", "dill", "cloudpickle"),
    *("joblib", "marshal", "shelve", "torch.load", "pandas.read_pickle", "pd.read_pickle"),
    *("os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "yaml.full_load"),
    *("shell=True", "allow_pickle=True", "trust_remote_code=True", "weights_only=False"),
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
    bad = "import pickle\nnp.load(f, allow_pickle=True)\nsubprocess.run(c, shell=True)\neval(t)"
    found = set(found_in(ast.parse(bad)))  # what this looks for would be found
    assert found & READERS_OF_CODE == {"pickle", "allow_pickle=True", "shell=True", "eval"}


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

    def build(config=None, tokenizer=None):
        folder = tmp_path / "model"
        family_model("bert").save_pretrained(folder)
        tiny_tokenizer.save_pretrained(folder)
        change_json(folder / "config.json", **(config or {}))
        change_json(folder / "tokenizer_config.json", **(tokenizer or {}))
        return folder

    return build


def test_code_of_a_model_directory_is_never_executed(model_directory, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    kinds = ("AutoConfig", "AutoModel", "AutoModelForSequenceClassification")
    folder = model_directory(
        config={"auto_map": {each: f"evil.{each}" for each in kinds}, "architectures": ["Evil"]},
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


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content[: len(content) // 2],
        lambda content: (2**63).to_bytes(8, "little") + content[8:],  # longer than any file
        lambda content: b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94.",  # pickled
        lambda content: save({"something": np.zeros(3, np.float32)}),
        {"num_hidden_layers": 30},
        {"num_hidden_layers": 1},
        {"hidden_size": 48},
        {"hidden_size": "x"},
        {"num_attention_heads": 7},
    ],
)
def test_weights_that_are_none_or_of_another_configuration_are_a_sentence(spoil, model_directory):
    folder = model_directory(config=spoil if isinstance(spoil, dict) else None)
    if callable(spoil):
        file = folder / "model.safetensors"
        file.write_bytes(spoil(file.read_bytes()))
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
@example(content=b"[" * 200_000)
def test_any_configuration_is_an_encoders_or_a_sentence(content, tmp_path):
    for name in ("model.safetensors", "vocab.txt"):
        (tmp_path / name).write_text("x")
    (tmp_path / "config.json").write_bytes(content)
    with sentence_about(tmp_path):
        assert isinstance(find_encoder(str(tmp_path)), Encoder)


# Names.

names = st.text(max_size=20) | st.sampled_from(
    ["..", ".", "", "/", "../x", "a/../../b", "/etc", "~", "a\0b", "-x", "CON", "a\nb", "é", "$(x)"]
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
        status = cli.main([command, *arguments])
    except SystemExit as stopped:  # --help
        status = stopped.code
    assert status in (0, 2)
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


STSB = "sentence1\tsentence2\tscore\n" + "One here.\tAnother.\t3.2\nTwo here.\tA third.\t0.5\n" * 3


def write_structured(file):
    save_subnetwork(StructuredSubnetwork(np.arange(12).reshape(3, 4) > 6, np.ones(3, bool)), file)


def write_weights(file):
    array = np.arange(35).reshape(5, 7) % 2 == 0
    save_subnetwork(WeightSubnetwork({"0.query.weight": array}), file)


def write_classifier(file):
    model = PatternCNN()
    model.validation_accuracy = 0.5
    save_cnn(model, file)


def write_mask(file):
    np.save(file, np.ones((12, 12)))
    np.save(file.with_name("mlp_mask.npy"), np.ones(12))


def write_tsv(file):
    for each in (file, file.with_name("train.tsv")):
        each.write_text(STSB)


def write_parquet(file):
    table = pd.DataFrame({"sentence1": ["a", "b"], "sentence2": ["c", "d"], "label": [1.0, 2]})
    for each in (file, file.with_name("train.parquet")):
        table.to_parquet(each)


def read_task(file):
    return load_data(find_task("stsb"), str(file.parents[1]))


FILES = {
    # what writes one, what reads it, as what
    "good.safetensors": (write_structured, load_subnetwork, Subnetwork),
    "weights.safetensors": (write_weights, load_subnetwork, Subnetwork),
    "cnn.safetensors": (write_classifier, load_cnn, PatternCNN),
    "heads_mlps/RTE/seed_1337/head_mask.npy": (
        write_mask,
        lambda file: read_masks(file.parents[3]),
        list,
    ),
    "STS-B/dev.tsv": (write_tsv, read_task, TaskData),
    "stsb/validation.parquet": (write_parquet, read_task, TaskData),
}


@pytest.mark.parametrize("name", FILES)
@settings(FEW, max_examples=100)
@given(edits=edits | early, length=lengths)
def test_any_file_is_what_it_should_be_or_a_sentence(name, edits, length, tmp_path):
    file = tmp_path / name
    write, read, kind = FILES[name]
    if not (whole := file.with_name("whole")).exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        write(file)
        file.rename(whole)
    content = whole.read_bytes()
    head = mutated(content[:2000], edits, length if len(content) < 2000 else 1)
    file.write_bytes(head + content[2000 : int(length * len(content))])
    with sentence_about(*file.relative_to(tmp_path).parts, "STS-B"):
        assert isinstance(read(file), kind)


# Notebooks: a parameter is data, whatever it says.


def test_parameters_that_look_like_code_stay_texts():
    harm = "'); open('harm', 'w').close(); ('"
    made = parse_settings("rte", encoder="tiny", store=f'runs{harm}\n"""\\$(touch harm)`x`')
    parameters = given_by(made)
    template = nbformat.read(TEMPLATES[0], as_version=4)
    template.metadata["papermill"] = {}
    for cell in template.cells:
        cell.metadata.setdefault("tags", [])
    filled = parameterize_notebook(template, parameters)
    (injected,) = (c for c in filled.cells if "injected-parameters" in c.metadata.get("tags", []))
    namespace = {}
    for node in ast.parse(injected.source).body:
        namespace[node.targets[0].id] = ast.literal_eval(node.value)  # literals and nothing else
    assert namespace == parameters
