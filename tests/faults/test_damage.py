"""Stores that are damaged, full or closed: named, mended or refused, never used as they are."""

import os
import random
import re
import resource
import shutil
import tempfile
from functools import partial
from pathlib import Path

import pytest

from tests.faults.disturbed import FORKED, REQUEST, assert_same, finish, run
from tests.stores import artefacts, leftovers, stage_of, whole

pytestmark = [FORKED, pytest.mark.long]
MADE_ON_THE_WAY = ("random-", "bad-", "inverted-", "word-pieces")
"""Stages that no job is named after: they come with the first job that needs them."""


@pytest.fixture
def store(undisturbed, tmp_path):
    """A finished store of one's own."""
    return Path(shutil.copytree(undisturbed[0], tmp_path / "runs"))


def flip(file, seed):
    """Change one bit of a file."""
    content = bytearray(file.read_bytes())
    content[random.Random(seed).randrange(len(content))] ^= 1 << seed % 8
    file.write_bytes(content)


def is_job(artefact):
    return not stage_of(artefact).startswith(MADE_ON_THE_WAY)


def kind_of(artefact, name):
    """A file's name, and what stage it is of unless every artefact has it."""
    in_all = ("config.json", "manifest.json", "provenance.json")
    return name if name in in_all else (stage_of(artefact).partition("-")[0], name)


def test_a_flipped_bit_in_each_kind_of_file_is_named_and_mended(store, undisturbed, tmp_path):
    files = {each: sorted(os.listdir(store / each)) for each in whole(store) if is_job(each)}
    waiting = {kind_of(each, name) for each, names in files.items() for name in names}
    assert len(waiting) > 12
    rounds = 0
    while waiting:
        flipped = {}
        for folder, names in files.items():
            if due := [name for name in names if kind_of(folder, name) in waiting]:
                flip(store / folder / due[0], rounds + len(flipped))
                flipped[folder] = due[0]
                waiting.remove(kind_of(folder, due[0]))
        said = finish(store, tmp_path / f"said-{rounds}")
        there, wanted = map(int, re.search(r"(\d+) of (\d+) jobs are done", said).groups())
        assert wanted - there == len(flipped)
        for folder, name in flipped.items():
            told = re.search(rf"{re.escape(str(store / folder))} is damaged \((.*?)\)", said)[1]
            assert name in told or "manifest.json" in flipped[folder], told
        assert_same(store, undisturbed[0])
        rounds += 1
    assert leftovers(store) == []


def test_what_jobs_build_on_is_verified_and_what_was_deleted_is_made(store, undisturbed, tmp_path):
    damaged = []
    for folder in sorted(whole(store)):
        if is_job(folder):
            shutil.rmtree(store / folder)
        else:
            files = sorted((store / folder).glob("*.safetensors")) or [
                store / folder / "manifest.json"
            ]
            flip(files[0], len(damaged))
            damaged.append(folder)
    assert {stage_of(folder).partition("-")[0] for folder in damaged} >= {"random", "bad", "word"}
    said = finish(store, tmp_path / "said")
    for folder in damaged:
        assert said.count(f"{store / folder} is damaged") == 1
    assert_same(store, undisturbed[0])


def limit(size):
    """Let this process write no file beyond so many bytes, as on a disk that is full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_disk_that_fills_up_stops_what_does_not_fit_and_all_the_rest_is_whole(
    undisturbed, tmp_path
):
    store = tmp_path / "runs"
    for folder in whole(undisturbed[0]):  # what every job needs
        if stage_of(folder) in ("cnn", "word-pieces"):
            shutil.copytree(undisturbed[0] / folder, store / folder)
    command = (*REQUEST, "--jobs", 2, "--store", store)
    status, said = run(*command, prepare=partial(limit, 20_000), said=tmp_path / "said")
    assert status == 1
    assert "Traceback" not in said
    assert re.search(r"lottery: \d+ failed; \d+ jobs that need them were left out\.", said)
    assert "cannot be kept in the run store" in said
    assert "File too large" in said
    assert leftovers(store) == []
    there, wanted = artefacts(store), artefacts(undisturbed[0])
    assert all(wanted[name] == content for name, content in there.items())
    assert any("frozen-" in name for name in there)
    assert len(there) < len(wanted)
    assert "damaged" not in finish(store, tmp_path / "again")
    assert_same(store, undisturbed[0])


def be_nobody():
    """Give up the rights of root, who may write anywhere."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)


@pytest.fixture
def open_folder():
    """A folder that others than its owner may look into; pytest's own are closed to them."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_store_that_is_read_only_is_refused_for_runs_and_read_for_status(
    undisturbed, open_folder, tmp_path
):
    store = Path(shutil.copytree(undisturbed[0], open_folder / "runs"))
    folders = [store, *(path for path in store.rglob("*") if path.is_dir())]
    before = artefacts(store)
    for folder in folders:
        folder.chmod(0o555)
    try:
        command = (*REQUEST, "--store", store)
        status, said = run(*command, prepare=be_nobody, said=tmp_path / "said")
        assert status == 2
        assert said.splitlines()[-1] == f"lottery: The run store {store} cannot be written to."
        asked = [part for part in REQUEST[1:] if part != "--no-pages"]
        command = ("status", *asked, "--store", store)
        status, said = run(*command, prepare=be_nobody, said=tmp_path / "said-status")
        assert status == 0, said
        assert "Nothing is left to compute" in said
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert artefacts(store) == before


@pytest.mark.parametrize("left", [0, 2000])
def test_a_template_cut_short_is_refused_before_anything_is_computed(left, tmp_path):
    notebooks = shutil.copytree(Path(__file__).parents[2] / "notebooks", tmp_path / "notebooks")
    template = notebooks / "03_magnitude_pruning.ipynb"
    template.write_bytes(template.read_bytes()[:left])
    command = [part for part in REQUEST if part != "--no-pages"]
    command += ["--notebooks", notebooks, "--pages", tmp_path / "pages"]
    status, said = run(*command, "--store", tmp_path / "runs", said=tmp_path / "said")
    assert status == 2
    assert f"The template {template} is no readable notebook" in said.splitlines()[-1]
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "pages").exists()
