"""The finished work that is committed beside pages: whole, and what the tables were made of."""

import hashlib
import json
import tarfile
from pathlib import Path, PurePosixPath

import pandas as pd
import pytest

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
