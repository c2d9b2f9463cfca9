"""What the grid leaves that nobody disturbs."""

import time

import pytest

from tests.faults.disturbed import GRID, run


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """A finished store, and how many seconds it took."""
    place = tmp_path_factory.mktemp("undisturbed")
    began = time.monotonic()
    status, said = run(*GRID, "--jobs", 2, "--store", place / "runs", said=place / "said")
    assert status == 0, said
    return place / "runs", time.monotonic() - began
