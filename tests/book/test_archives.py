"""The finished work that is committed beside pages: whole, and what the tables were made of."""

import hashlib
import json
import tarfile
from pathlib import Path, PurePosixPath

import pandas as pd
import pytest

from lotterylib.report.identity import read_request
from lotterylib.runs.experiment import open_experiment
from lotterylib.runs.jobs import is_done, jobs_of
from lotterylib.runs.settings import names, parse_settings

RESULTS = Path(__file__).parents[2] / "book" / "results"
ARCHIVES = sorted(RESULTS.rglob("artefacts.tar.xz"))
LEFT_OUT = ("finetune-", "word-pieces-", "random-", "bad-")


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: path.parent.name)
def test_an_archive_holds_whole_artefacts_and_the_scores_of_the_table(archive):
    table = pd.read_csv(archive.with_name("results.csv"))
    with tarfile.open(archive) as packed:
        files = {
            PurePosixPath(each.name): packed.extractfile(each).read()
            for each in packed
            if each.isfile()
        }
    scores = {}
    for path, content in files.items():
        encoder, task, stage, seed, name = path.parts
        assert (encoder, task) == (archive.parent.parent.name, archive.parent.name)
        assert not stage.startswith(LEFT_OUT)
        if name == "manifest.json":
            for other, digest in json.loads(content).items():
                assert hashlib.sha256(files[path.with_name(other)]).hexdigest() == digest
        if name == "score.json" and stage.startswith("retrained-"):
            score = json.loads(content)["metrics"]
            scores.setdefault(int(seed.removeprefix("seed-")), []).append(score)
    retrained = table[table["reported"] & (table["phase"] == "retrained")]
    assert len(retrained) == sum(map(len, scores.values())) > 0
    for seed, rows in retrained.groupby("seed"):
        metric = rows["metric"].iloc[0]
        found = sorted(score[metric] for score in scores[seed])
        assert sorted(rows["value"]) == pytest.approx(found, abs=1e-6)


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: path.parent.name)
def test_unpacked_into_a_store_an_archive_leaves_only_fine_tuning(archive, glue_dir, tmp_path):
    """Also a net under refactorings: no key of what was computed may change."""
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path, filter="data")
    request = read_request(archive.parent)
    asked = {name: value for name, value in request["request"].items() if name in names()}
    asked |= {"seeds": request["seeds"]["04_subnetworks"], "store": str(tmp_path)}
    made = open_experiment(parse_settings(**asked | {"data_dir": str(glue_dir)}))
    left = {job.stage for job in jobs_of(made.settings) if not is_done(made, job)}
    assert left == {"finetune", "classifier"}
