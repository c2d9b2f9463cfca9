"""The grid as jobs of clusters: what it leaves equals what a plain run leaves."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest

from tests.grid.tiny import ROOT, STORE, command, done, execute, start
from tests.stores import artefacts

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        importlib.util.find_spec("snakemake") is None, reason="Snakemake is not installed"
    ),
]
ONE_SEED = ("--seeds=3", "--no-pages")
STAGES_OF_ONE_SEED = 5


def check_has_one_seed_of_a_plain_run(folder, plain):
    """Artefacts as in another store that has a second seed, and so super-survivors as well."""
    assert artefacts(folder / STORE) == {
        name: content
        for name, content in artefacts(plain / "runs").items()
        if "seed-4" not in name and "-super-" not in name
    }


def test_the_same_stages_on_slurm_leave_what_a_plain_run_leaves(
    plain, trained_classifier, cluster, tmp_path
):
    start(tmp_path, trained_classifier)
    often = [
        f"--{name}=2" for name in ("seconds-between-status-checks", "max-status-checks-per-second")
    ]
    often.append("--slurm-init-seconds-before-status-checks=2")
    ran = execute(command("slurm", *often, but=ONE_SEED), tmp_path, **cluster)
    assert ran.returncode == 0, ran.said
    submitted = re.findall(r"has been submitted with SLURM jobid \d+", ran.said)
    assert len(submitted) == len(done(tmp_path)) == STAGES_OF_ONE_SEED
    check_has_one_seed_of_a_plain_run(tmp_path, plain)


def test_the_same_stages_as_jobs_of_kubernetes_leave_what_a_plain_run_leaves(
    plain, trained_classifier, tmp_path
):
    """The Jobs are checked against Kubernetes' own schema; what runs them here is no cluster."""
    start(tmp_path, trained_classifier)
    for name in ("bin", "jobs"):
        (tmp_path / name).mkdir()
    shutil.copy(Path(__file__).with_name("kubectl"), tmp_path / "bin" / "kubectl")
    cluster = {
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "JOBS": str(tmp_path / "jobs"),
        "LOTTERY_IMAGE": "python:3.11",
        "LOTTERY_CLAIM": "lottery",
        "LOTTERY_MOUNT": str(tmp_path),
    }
    often = ["--seconds-between-status-checks=1", "--jobs=2"]
    ran = execute(command("kubernetes", *often, but=ONE_SEED), tmp_path, **cluster)
    assert ran.returncode == 0, ran.said
    submitted = sorted((tmp_path / "jobs").glob("*.json"))
    assert len(submitted) == len(done(tmp_path)) == STAGES_OF_ONE_SEED
    for path in submitted:
        job = json.loads(path.read_text())
        kubernetes_validate.validate(job | {"metadata": {"name": path.stem}}, "1.31", strict=True)
        (container,) = job["spec"]["template"]["spec"]["containers"]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    check_has_one_seed_of_a_plain_run(tmp_path, plain)


def test_kubernetes_is_told_what_it_lacks(tmp_path):
    jobs = ROOT / "notebooks" / "profiles" / "kubernetes" / "jobs"
    environment = {name: value for name, value in os.environ.items() if "LOTTERY" not in name}
    asked = [jobs, "submit", tmp_path / "script"]
    ran = subprocess.run(asked, env=environment, capture_output=True, text=True)
    assert ran.returncode == 1
    assert "needs the variables LOTTERY_IMAGE, LOTTERY_CLAIM, LOTTERY_MOUNT" in ran.stderr
    elsewhere = dict.fromkeys(["LOTTERY_IMAGE", "LOTTERY_CLAIM"], "x") | {"LOTTERY_MOUNT": "/mnt"}
    ran = subprocess.run(asked, env=environment | elsewhere, capture_output=True, text=True)
    assert ran.returncode == 1
    assert "does not lie in /mnt" in ran.stderr
