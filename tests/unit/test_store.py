"""The run store: an artefact is whole and true, or it is made again."""

import errno
import multiprocessing
import time
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from safetensors.numpy import save_file

import lotterylib.runs.store
from lotterylib.data.files import read_json, write_json
from lotterylib.errors import LotteryError
from lotterylib.runs.store import Key, RunStore, provenance

CONFIG = {"rate": 0.001, "rows": 48, "names": ["a", "b"]}
FILES = ("score.json", "good.safetensors", "config.json", "provenance.json", "manifest.json")


@pytest.fixture(autouse=True)
def _no_commit(monkeypatch):
    """What the commit is does not matter here, and asking for it takes a process."""
    monkeypatch.setattr(lotterylib.runs.store, "_commit", lambda: "0123456789ab")


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs")


class Maker:
    """Makes an artefact of two files and counts how often."""

    def __init__(self):
        self.calls = 0

    def __call__(self, folder):
        assert list(folder.iterdir()) == []
        self.calls += 1
        write_json(folder / "score.json", {"value": 0.5})
        (folder / "good.safetensors").write_bytes(bytes(range(256)))


def key(**changes):
    values = {"encoder": "tiny", "task": "rte", "stage": "search", "config": CONFIG, "seed": 42}
    return Key(**(values | changes))


def content(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def leftovers(store):
    partial = store.root / ".partial"
    return sorted(partial.iterdir()) if partial.is_dir() else []


# --- keys --------------------------------------------------------------------


def test_the_digest_does_not_depend_on_the_order_of_the_configuration():
    assert key(config=dict(reversed(CONFIG.items()))).digest == key().digest


def test_the_digest_depends_on_every_value():
    changes = ({}, {"rate": 0.002}, {"rows": 48.5}, {"rows": "48"}, {"names": ["b", "a"]})
    configs = [CONFIG | change for change in (*changes, {"more": None})]
    digests = {key(config=config).digest for config in (*configs, {"rate": 0.001})}
    assert len(digests) == 7
    assert key(seed=1).path != key(seed=2).path


def test_json_is_the_same_byte_for_byte_and_holds_no_nan(tmp_path):
    write_json(tmp_path / "one", {"b": 1, "a": [1.5, "ä"]})
    write_json(tmp_path / "two", {"a": [1.5, "ä"], "b": 1})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert read_json(tmp_path / "one") == {"a": [1.5, "ä"], "b": 1}
    for bad in (float("nan"), -float("inf")):
        with pytest.raises(ValueError, match="JSON"):
            key(config={"rate": bad}).digest  # noqa: B018
        with pytest.raises(ValueError, match="JSON"):
            write_json(tmp_path / "file.json", {"score": [bad]})
    assert not (tmp_path / "file.json").exists()


# --- fetching ----------------------------------------------------------------


def test_a_second_fetch_computes_nothing(store):
    make = Maker()
    assert not store.has(key())
    folder = store.fetch(key(), make)
    assert store.has(key())
    assert folder == store.root / "tiny" / "rte" / f"search-{key().digest}" / "seed-42"
    before = content(folder)
    assert set(before) == set(FILES)
    assert store.fetch(key(), make) == folder
    assert make.calls == 1
    assert content(folder) == before
    assert leftovers(store) == []


def test_whoever_may_read_the_store_may_read_every_file_of_it(store):
    def make(folder):
        save_file({"a": np.zeros(2)}, folder / "a.safetensors")

    folder = store.fetch(key(), make)
    plain = folder.parent / "plain"
    plain.write_text("as the user's own settings have it")
    assert {file.stat().st_mode for file in folder.iterdir()} == {plain.stat().st_mode}


def test_configuration_and_provenance_are_kept(store, monkeypatch):
    folder = store.fetch(key(), Maker(), device="a fast one")
    assert read_json(folder / "config.json") == {"stage": "search", "config": CONFIG}
    told = store.provenance(key())
    assert (told["device"], told["commit"]) == ("a fast one", "0123456789ab")
    assert told["seconds"] >= 0
    assert {"python", "torch", "transformers", "numpy", "lotterylib", "threads"} <= told.keys()
    monkeypatch.undo()  # and there is no git, or no repository
    monkeypatch.setattr(lotterylib.runs.store.subprocess, "run", Mock(side_effect=OSError))
    assert provenance("CPU")["commit"] == ""


def flip(file, position, mask):
    data = bytearray(file.read_bytes())
    data[int(position * (len(data) - 1))] ^= mask
    file.write_bytes(bytes(data))


def check_made_again(store, damage):
    """A damaged artefact is reported and replaced by an equal one."""
    make = Maker()
    folder = store.fetch(key(), make)
    artefact = {name: content(folder)[name] for name in ("score.json", "good.safetensors")}
    damage(folder)
    with pytest.warns(UserWarning, match=r"seed-42 is damaged \(.+\); it is computed again"):
        store.fetch(key(), make)
    assert store.is_whole(key())
    assert make.calls == 2
    assert set(content(folder)) == set(FILES)
    assert leftovers(store) == []
    assert artefact.items() <= content(folder).items()


def swap(folder):
    (folder / "score.json").rename(folder / "x")
    (folder / "good.safetensors").rename(folder / "score.json")
    (folder / "x").rename(folder / "good.safetensors")


DAMAGE = {
    "first byte": lambda file: flip(file, 0, 0xFF),
    "a bit": lambda file: flip(file, 0.5, 0x01),
    "last byte": lambda file: flip(file, 1, 0x80),
    "missing": Path.unlink,
    "cut short": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "empty": lambda file: file.write_bytes(b""),
}
WHOLE = {
    "another file": lambda folder: (folder / "more.json").write_text("{}"),
    "another folder": lambda folder: (folder / "more").mkdir(),
    "swapped files": swap,
    "a manifest that is null": lambda folder: (folder / "manifest.json").write_text("null"),
    "a manifest that is a list": lambda folder: (folder / "manifest.json").write_text("[]"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_noticed(name, tmp_path):
    for kind, damage in DAMAGE.items():
        store = RunStore(tmp_path / kind)
        check_made_again(store, lambda folder, damage=damage: damage(folder / name))


@pytest.mark.parametrize("kind", WHOLE)
def test_a_folder_that_is_not_as_its_manifest_says_is_noticed(kind, store):
    check_made_again(store, WHOLE[kind])


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_a_failure_leaves_nothing_behind(error, store):
    def fail(folder):
        write_json(folder / "score.json", 1)
        raise error

    with pytest.raises(error):
        store.fetch(key(), fail)
    assert not store.has(key())
    assert leftovers(store) == []
    left = {path.parent.name for path in store.root.rglob("*") if path.is_file()}
    assert left <= {".claims", ".failed"}
    (store.fetch(key(), Maker()) / "score.json").write_text("{}")
    with pytest.warns(UserWarning, match=r"score\.json"), pytest.raises(error):
        store.fetch(key(), fail)
    assert not store.has(key())  # the damage does not come back


def fetch_in_process(root, queue):
    def make(folder):
        time.sleep(0.2)
        Maker()(folder)
        queue.put("made")

    queue.put(str(RunStore(root).fetch(key(), make)))


FORK = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="processes cannot be forked"
)


@FORK
def test_processes_that_want_the_same_make_it_once(store):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=fetch_in_process, args=(store.root, queue)) for _ in "123"]
    for process in processes:
        process.start()
    found = sorted(queue.get(timeout=60) for _ in range(4))
    for process in processes:
        process.join(60)
    assert found == [str(store.root / key().path)] * 3 + ["made"]
    assert store.is_whole(key())
    assert leftovers(store) == []


@FORK
def test_what_a_killed_process_had_claimed_is_free_again(store):
    context = multiprocessing.get_context("fork")
    begun = context.Event()

    def make(folder):
        begun.set()
        time.sleep(60)

    process = context.Process(target=store.fetch, args=(key(), make))
    process.start()
    assert begun.wait(30)
    assert store.is_claimed(key())
    process.kill()
    process.join()
    assert not store.is_claimed(key())
    assert store.fetch(key(), Maker()) == store.root / key().path


def failing(message):
    return Mock(side_effect=LotteryError(message))


def test_why_something_failed_is_kept_until_it_succeeds(store):
    assert store.failure(key()) == ""
    with pytest.raises(LotteryError):
        store.fetch(key(), failing("Too bad.\nThe last line."))
    assert store.failure(key()) == "The last line."
    assert store.failure(key(seed=1)) == ""
    with pytest.raises(ZeroDivisionError):
        store.fetch(key(), lambda folder: 1 / 0)
    assert store.failure(key()) == "ZeroDivisionError: division by zero"
    store.fetch(key(), Maker())
    assert store.failure(key()) == ""


def test_a_failure_is_that_of_the_artefact_that_failed(store):
    inner = key(stage="finetune")

    def outer(folder):
        store.fetch(inner, failing("Too bad."))

    with pytest.raises(LotteryError):
        store.fetch(key(), outer)
    assert (store.failure(inner), store.failure(key())) == ("Too bad.", "")


def test_a_full_disk_is_a_sentence_and_leaves_nothing(store):
    full = Mock(side_effect=OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(LotteryError, match=r"search of rte, seed 42, cannot be.*No space left"):
        store.fetch(key(), full)
    assert leftovers(store) == []
    assert not store.has(key())


def test_a_store_that_is_a_file_is_a_sentence(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(LotteryError, match="cannot be written to"):
        RunStore(tmp_path / "runs").fetch(key(), Maker())
