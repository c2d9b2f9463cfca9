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
    (tmp_path / "kubectl").write_text("#!/bin/sh\nexit 9\n")
    (tmp_path / "kubectl").chmod(0o755)
    environment["PATH"] = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    asked = [jobs, "submit", tmp_path / "script"]
    ran = subprocess.run(asked, env=environment, capture_output=True, text=True)
    assert ran.returncode == 1
    assert "needs the variables LOTTERY_IMAGE, LOTTERY_CLAIM, LOTTERY_MOUNT" in ran.stderr
    elsewhere = dict.fromkeys(["LOTTERY_IMAGE", "LOTTERY_CLAIM"], "x") | {"LOTTERY_MOUNT": "/mnt"}
    ran = subprocess.run(asked, env=environment | elsewhere, capture_output=True, text=True)
    assert ran.returncode == 1
    assert "does not lie in /mnt" in ran.stderr


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        ("echo '{}'", "running"),
        ("""echo '{"status": {"active": 1}}'""", "running"),
        ("""echo '{"status": {"succeeded": 1}}'""", "success"),
        ("""echo '{"status": {"failed": 1}}'""", "failed"),
        ("""echo '{"status": {"conditions": [{"type": "Failed", "status": "True"}]}}'""", "failed"),
        ("echo 'Error from server (NotFound)' >&2; exit 1", "failed"),
        ("echo 'Unable to connect to the server' >&2; exit 1", "running"),
    ],
)
def test_what_kubernetes_says_of_a_job_is_a_word(answer, word, tmp_path):
    (tmp_path / "kubectl").write_text(f'#!/bin/sh\n[ "$3" = lottery-x ] || exit 9\n{answer}\n')
    (tmp_path / "kubectl").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    asked = [ROOT / "notebooks" / "profiles" / "kubernetes" / "jobs", "status", "lottery-x"]
    told = subprocess.run(asked, env=os.environ | {"PATH": path}, capture_output=True, text=True)
    assert told.stdout.strip() == word, told.stderr


def test_jobs_of_kubernetes_are_cancelled_by_their_names(tmp_path):
    (tmp_path / "kubectl").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    (tmp_path / "kubectl").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    asked = [ROOT / "notebooks" / "profiles" / "kubernetes" / "jobs", "lottery-x", "lottery-y"]
    assert subprocess.run(asked, env=os.environ | {"PATH": path}).returncode == 0
    wanted = "delete job --wait=false lottery-x lottery-y"
    assert (tmp_path / "asked").read_text().strip() == wanted
