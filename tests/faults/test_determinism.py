"""Equal requests give equal files; other processors, threads and batches nearly equal ones."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.stores import artefacts

pytestmark = pytest.mark.long
TRAIN_AND_MEASURE = """
import sys
import torch
from lotterylib import batches, scoring
from lotterylib.runs.jobs import Job, compute
from lotterylib.runs.experiment import open_experiment
from lotterylib.runs.settings import parse_settings

store, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
amounts = {"train_rows": 128, "dev_rows": 64, "epochs": 1}
made = open_experiment(
    parse_settings("acceptability", encoder="minilm", **amounts, seeds=[3], store=store)
)
for job in (Job("finetune", 3), Job("importance", 3, kind="example")):
    compute(made, job)
"""
LOSS, IMPORTANCE, WEIGHT = 1e-4, 1e-2, 2e-4
"""What may differ between processors after a few steps: the loss of a step, an importance score as
a share of the largest, and a weight. Adam's steps are a learning rate long however small the
gradient, so that a gradient next to zero moves its weight one way or the other."""


def made(store, threads=1, **environment):
    """What fine-tuning a little and measuring importance leave in a new store."""
    command = [sys.executable, "-c", TRAIN_AND_MEASURE, store, str(threads)]
    subprocess.run(command, env=os.environ | environment, check=True, capture_output=True)
    return store


def file_of(store, stage, name):
    (found,) = Path(store).glob(f"*/*/{stage}-*/seed-3/{name}")
    return found


def check_nearly_equal(one, other):
    losses = [json.loads(file_of(s, "finetune", "losses.json").read_text()) for s in (one, other)]
    assert np.abs(np.subtract(*losses)).max() < LOSS
    weights = [load_file(file_of(s, "finetune", "model.safetensors")) for s in (one, other)]
    assert max(np.abs(weights[0][name] - weights[1][name]).max() for name in weights[0]) < WEIGHT
    files = [file_of(s, "importance-example", "importance.json") for s in (one, other)]
    scores = [json.loads(file.read_text()) for file in files]
    for part in ("heads", "mlps"):
        first, second = (np.array(each[part]) for each in scores)
        assert np.abs(first - second).max() < IMPORTANCE * first.max()


@pytest.fixture(scope="module")
def plain(minilm, tmp_path_factory):
    return made(tmp_path_factory.mktemp("plain"))


def test_the_same_seed_twice_gives_the_same_files_byte_for_byte(plain, tmp_path):
    assert artefacts(made(tmp_path)) == artefacts(plain)


def test_another_number_of_threads_gives_nearly_the_same(plain, tmp_path):
    check_nearly_equal(plain, made(tmp_path, threads=2))


def test_a_processor_of_fewer_instructions_gives_nearly_the_same(plain, tmp_path):
    plainer = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}
    other = made(tmp_path, **plainer)
    check_nearly_equal(plain, other)
    assert artefacts(other) != artefacts(plain)  # it did compute otherwise
