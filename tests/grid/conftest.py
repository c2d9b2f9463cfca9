"""What a plain run makes of the tiny request."""

import os
import shutil

import pytest

from tests.grid.cluster import install, missing, slurm
from tests.grid.tiny import STORE, lottery
from tests.shared import made_once


@pytest.fixture(scope="session")
def plain(trained_classifier, tmp_path_factory, worker_id):
    """The store of a plain run."""

    def make(folder):
        shutil.copytree(trained_classifier, folder / STORE)
        done = lottery(folder, "--jobs=1", "--no-pages")
        assert done.returncode == 0, done.said

    return made_once(tmp_path_factory, worker_id, "plain", make) / STORE


@pytest.fixture
def cluster():
    """The environment of a Slurm that is started for a test, and installed if that is asked for."""
    told = ""
    if missing() and os.environ.get("LOTTERY_INSTALL_SLURM"):
        told = install()
    if missing():
        pytest.skip(f"Slurm lacks {', '.join(missing())}: {told or 'not installed'}")
    with slurm() as environment:
        yield environment
