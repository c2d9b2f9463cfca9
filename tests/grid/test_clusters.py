"""The grid as jobs of clusters: what it leaves equals what a plain run leaves."""

import importlib.util
import re

import pytest

from tests.grid.tiny import STORE, command, done, execute, start
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
