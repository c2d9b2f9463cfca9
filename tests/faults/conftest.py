"""What a run leaves that nobody disturbs."""

import time

import pytest

from tests.faults.disturbed import REQUEST, run
from tests.shared import made_once


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory, worker_id):
    """A finished store that one process made, and how many seconds it took.

    What tests compare with it was made by two processes, or finished by them.
    """

    def make(folder):
        began = time.monotonic()
        status, said = run(*REQUEST, "--jobs", 1, "--store", folder / "runs", said=folder / "said")
        assert status == 0, said
        (folder / "seconds").write_text(str(time.monotonic() - began))

    folder = made_once(tmp_path_factory, worker_id, "undisturbed", make)
    return folder / "runs", float((folder / "seconds").read_text())
