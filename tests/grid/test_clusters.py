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


def test_jobs_on_slurm_leave_what_a_plain_run_leaves(plain, cluster, tmp_path):
    start(tmp_path, plain, without=lambda artefact: "magnitude" in artefact)
    profile = tmp_path / "notebooks" / "profiles" / "slurm" / "config.yaml"
    often = ("seconds-between-status-checks", "max-status-checks-per-second")
    often += ("slurm-init-seconds-before-status-checks",)
    profile.write_text(profile.read_text() + "".join(f"{name}: 2\n" for name in often))
    ran = lottery(tmp_path, "--profile=slurm", "--no-pages", **cluster)
    assert ran.returncode == 0, ran.said
    assert "4 jobs for Snakemake." in ran.said  # of each seed the search, then what builds on it
    assert len(re.findall(r"has been submitted with SLURM jobid \d+", ran.said)) == 4
    assert artefacts(tmp_path / STORE) == artefacts(plain)
