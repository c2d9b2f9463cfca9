"""The importer: the authors' layout in, subnetworks out, and nothing written on any fault."""

import io
import itertools
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from lotterylib.encoder import shape_of
from lotterylib.errors import LotteryError
from lotterylib.report.imported import BERT_BASE, import_masks, load_imported, read_masks
from lotterylib.runs.store import Key, RunStore
from lotterylib.tasks import TASKS

pytestmark = pytest.mark.usefixtures("no_commit")
LAYERS, HEADS = 12, 12
BOTH = ("head_mask", "mlp_mask")
LAYOUT = {
    "structured": ("heads_mlps", BOTH),
    "heads": ("heads", ("head_mask",)),
    "mlps": ("mlps", ("mlp_mask",)),
    "random": ("heads_mlps_random", BOTH),
    "bad": ("heads_mlps_bad_1", BOTH),
    "super": ("heads_mlps_super", BOTH),
    "super-random": ("heads_mlps_super_midling", BOTH),
    "super-bad": ("heads_mlps_super_bizzaro", BOTH),
}
"""By family, the authors' folder, as they call it, and what each seed has."""


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs")


@pytest.fixture
def repository(tmp_path):
    """A repository in the authors' layout: two tasks, two seeds, all families."""
    draw = np.random.default_rng(0)
    for folder, names in LAYOUT.values():
        for task, seed, name in itertools.product(("CoLA", "STS-B"), (42, 7), names):
            path = mask_of(tmp_path / "authors", folder, task, seed, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            shape = (LAYERS, HEADS) if name == "head_mask" else (LAYERS,)
            np.save(path, (draw.random(shape) < 0.5).astype(np.float32))
    return tmp_path / "authors"


def mask_of(repository, method="heads_mlps", task="CoLA", seed=42, name="head_mask"):
    return repository / "masks" / method / task / f"seed_{seed}" / f"{name}.npy"


def by_name(found):
    return {(each.family, each.task, each.seed): each.subnetwork for each in found}


def test_masks_become_subnetworks(repository):
    found = by_name(read_masks(repository))
    assert list(found) == list(itertools.product(LAYOUT, ("cola", "stsb"), (7, 42)))
    for (family, task, seed), kept in found.items():
        folder, names = LAYOUT[family]
        for name, mask, shape in (
            ("head_mask", kept.heads, (LAYERS, HEADS)),
            ("mlp_mask", kept.mlps, (LAYERS,)),
        ):
            path = mask_of(repository, folder, TASKS[task].tsv_folder, seed, name)
            np.testing.assert_array_equal(mask, np.load(path) == 1 if name in names else True)
            assert mask.shape == shape


@pytest.mark.parametrize("dtype", [np.float16, np.uint8, bool])
def test_zeros_and_ones_of_any_type_of_number_will_do(repository, dtype):
    wanted = read_masks(repository)[0].subnetwork
    for path in repository.rglob("*.npy"):
        np.save(path, np.load(path).astype(dtype))
    assert read_masks(repository)[0].subnetwork == wanted


def test_whatever_else_the_repository_holds_is_left_alone(repository):
    wanted = read_masks(repository)
    for extra in ("heads_mlps_bad", "heads_mlps_hans/HANS/seed_1", "global"):
        (repository / "masks" / extra).mkdir(parents=True)
        (repository / "masks" / extra / "head_mask.npy").write_bytes(b"nonsense")
    (repository / "masks" / "heads_mlps" / "notes.txt").write_text("notes")
    (repository / "masks" / "heads_mlps" / ".cache").mkdir()
    seed = mask_of(repository).parent
    (seed / "head_importance.npy").write_bytes(b"nonsense")
    (seed / "impacttracker").mkdir()
    assert read_masks(repository) == wanted == read_masks(repository / "masks")


def test_what_is_imported_is_loaded_again_and_importing_twice_changes_nothing(repository, store):
    imported = import_masks(repository, store)
    flat = {
        (family, task, seed): subnetwork
        for family, tasks in load_imported(store.root).items()
        for task, seeds in tasks.items()
        for seed, subnetwork in seeds.items()
    }
    assert list(flat.items()) == list(by_name(imported).items())
    for each in imported:
        config = {"source": "sai-prasanna/bert-experiments", "method": each.family}
        config["sha256"] = each.sha256
        stage = f"imported-{each.family}"
        assert each.key == Key("bert-base-uncased-authors", each.task, stage, config, each.seed)
    before = {store.root / each.key.path / "good.safetensors" for each in imported}
    before = {path: path.stat().st_mtime_ns for path in before}
    import_masks(repository, store)
    assert before == {path: path.stat().st_mtime_ns for path in store.root.rglob("*.safetensors")}


def test_the_digest_changes_with_any_bit_of_its_task_and_with_nothing_else(repository):
    def digests():
        return {(each.family, each.task): each.sha256 for each in read_masks(repository)}

    before = digests()
    assert len(set(before.values())) == len(before)
    path = mask_of(repository, seed=7, name="mlp_mask")
    np.save(path, 1 - np.load(path))
    after = digests()
    assert {name for name in before if before[name] != after[name]} == {("structured", "cola")}


def array_bytes(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


ONES = np.ones((LAYERS, HEADS), dtype=np.float32)
ZIP = io.BytesIO()
np.savez(ZIP, mask=ONES)
BAD_CONTENT = {
    "half": (array_bytes(np.where(np.eye(LAYERS, HEADS), 0.5, ONES)), "holds the value 0.5"),
    "nan": (array_bytes(ONES * np.nan), "holds the value nan"),
    "pickle": (pickle.dumps(ONES), "not a readable array"),
    "empty file": (b"", "not a readable array"),
    "text": (array_bytes(np.full((LAYERS, HEADS), "1")), "not an array of numbers"),
    "archive": (ZIP.getvalue(), "not an array of numbers"),
    "narrow": (array_bytes(ONES[:, 1:]), r"shape \(12, 11\).*BERT-base, .* \(12, 12\)"),
    "flat": (array_bytes(ONES.ravel()), r"shape \(144,\)"),
}


def test_a_pickle_is_not_run(repository, store, tmp_path):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "sprung",)

    trapped = array_bytes(np.array([[Trap()]], dtype=object), allow_pickle=True)
    for content in (trapped, pickle.dumps(Trap())):
        mask_of(repository).write_bytes(content)
        with pytest.raises(LotteryError, match="not a readable array"):
            import_masks(repository, store)
    assert not (tmp_path / "sprung").exists()


def rename(path, name):
    path.rename(path.with_name(name))


BAD_LAYOUT = {
    "no MLP mask": (
        lambda r: mask_of(r, "mlps", name="mlp_mask").unlink(),
        r"mlps/CoLA/seed_42 has no mlp_mask\.npy",
    ),
    "a folder for a mask": (
        lambda r: (mask_of(r).unlink(), mask_of(r).mkdir()),
        r"seed_42 has no head_mask\.npy",
    ),
    "two tasks lack seeds": (
        lambda r: [
            shutil.rmtree(mask_of(r, task=t, seed=s).parent)
            for t, s in (("STS-B", 42), ("CoLA", 7))
        ],
        "heads_mlps masks are missing: cola lacks seed 7; stsb lacks seed 42, which another task",
    ),
    "unknown task": (
        lambda r: rename(mask_of(r).parents[1], "Cola"),
        r"Unknown task folder in .*heads_mlps: 'Cola'\. Did you mean 'CoLA'\? Accepted: CoLA,",
    ),
    "a zero before": (lambda r: rename(mask_of(r).parent, "seed_042"), "seed_042 is no folder"),
    "an empty task": (
        lambda r: [shutil.rmtree(mask_of(r, seed=s).parent) for s in (7, 42)],
        "CoLA has no folder of a seed",
    ),
}


@pytest.mark.parametrize("fault", [*BAD_LAYOUT, *BAD_CONTENT])
def test_what_is_bad_is_named_and_nothing_is_written(repository, store, fault):
    if fault in BAD_LAYOUT:
        damage, words = BAD_LAYOUT[fault]
        damage(repository)
    else:
        data, words = BAD_CONTENT[fault]
        path = mask_of(repository, "heads", "STS-B")  # read after most of the others
        path.write_bytes(data)
        words = f"{re.escape(str(path))} .*{words}"
    with pytest.raises(LotteryError, match=words + r"(?s:.*)\.$"):
        import_masks(repository, store)
    assert not store.root.exists()


@pytest.mark.parametrize("inside", ["", "masks/heads_mlps"])
def test_a_folder_without_masks(tmp_path, store, inside):
    (tmp_path / inside).mkdir(parents=True, exist_ok=True)
    with pytest.raises(LotteryError, match=f"no masks in {tmp_path}: .*heads_mlps/<TASK>/seed_"):
        import_masks(tmp_path, store)
    assert load_imported(store.root) == {}


@pytest.mark.parametrize("file", ["good.safetensors", "config.json", "manifest.json"])
def test_a_damaged_or_partial_import_is_refused_and_mended_by_importing_again(
    repository, store, file
):
    imported = import_masks(repository, store)
    path, other = (store.root / imported[n].key.path / file for n in (3, 4))
    path.write_bytes(other.read_bytes() + b"x" * (file == "manifest.json"))
    with pytest.raises(LotteryError, match="is damaged; run the import again") as caught:
        load_imported(store.root)
    assert str(path.parent) in str(caught.value)
    shutil.rmtree(path.parent)
    with pytest.raises(LotteryError, match="is incomplete, run it again: stsb lacks seed 42"):
        load_imported(store.root)
    import_masks(repository, store)
    assert load_imported(store.root)["structured"]["stsb"][42] == imported[3].subnetwork


def test_two_imports_of_different_masks_are_not_mixed(repository, store):
    import_masks(repository, store)
    path = mask_of(repository)
    np.save(path, 1 - np.load(path))
    import_masks(repository, store)
    with pytest.raises(LotteryError, match=r"two imports of different masks, .*; delete one"):
        load_imported(store.root)


def test_bert_base_has_the_parameters_of_bert_base():
    with torch.device("meta"):
        model = BertForSequenceClassification(BertConfig(num_labels=2))
    assert shape_of(model) == BERT_BASE
    assert sum(each.numel() for each in model.parameters()) == BERT_BASE.total


def test_masks_and_their_statistics_need_no_torch():
    modules = ("report.imported", "agreement", "super_survivors", "overlap")
    code = "; ".join(f"import lotterylib.{module}" for module in modules)
    code += "; import sys; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_authors_masks_survive_the_run_store(authors_dir, store):
    found = import_masks(authors_dir, store)
    loaded = load_imported(store.root)
    assert {each.task for each in found} == {name for name in TASKS if TASKS[name].tsv_folder}
    for each in found:
        assert loaded[each.family][each.task][each.seed] == each.subnetwork
