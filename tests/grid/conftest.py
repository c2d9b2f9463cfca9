"""What a plain run makes of the tiny request."""

import os

import pytest

from tests.grid.cluster import install, missing, slurm
from tests.grid.tiny import lay_out, lottery


@pytest.fixture(scope="session")
def plain(tmp_path_factory):
    """The folder of a plain run, with its store in `runs`."""
    folder = tmp_path_factory.mktemp("plain")
    lay_out(folder)
    done = lottery(folder, "--jobs=2", store="runs")
    assert done.returncode == 0, done.said
    return folder


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
