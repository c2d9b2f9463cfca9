"""The grid as jobs of a cluster: what it leaves equals what a plain run leaves."""

import importlib.util
import re

import pytest

from tests.grid.tiny import STORE, lottery, start
from tests.stores import artefacts

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        importlib.util.find_spec("snakemake") is None, reason="Snakemake is not installed"
    ),
]


def test_the_same_jobs_on_slurm_leave_what_a_plain_run_leaves(
    plain, trained_classifier, cluster, tmp_path
):
    start(tmp_path, trained_classifier)
    profile = tmp_path / "notebooks" / "profiles" / "slurm" / "config.yaml"
    often = ("seconds-between-status-checks", "max-status-checks-per-second")
    often += ("slurm-init-seconds-before-status-checks",)
    profile.write_text(profile.read_text() + "".join(f"{name}: 2\n" for name in often))
    ran = lottery(tmp_path, "--profile=slurm", "--no-pages", **cluster)
    assert ran.returncode == 0, ran.said
    submitted = re.findall(r"has been submitted with SLURM jobid \d+", ran.said)
    assert f"{len(submitted)} jobs for Snakemake." in ran.said
    assert len(submitted) > 5
    assert artefacts(tmp_path / STORE) == artefacts(plain / "runs")
