"""What the run store holds stays what it is, byte for byte, whatever is done to the code.

A run of everything on the tiny encoder is compared with `results_stay.json`: the names of all
artefacts (with the digests of their keys) and the SHA-256 of their files. A change that is meant to
change results raises `RESULTS_VERSION` and writes the file anew:

    python -m tests.unit.test_results_stay
"""

import hashlib
import json
import tempfile
from pathlib import Path

import pytest
import torch

from lotterylib.runs.experiment import open_experiment
from lotterylib.runs.jobs import ALL, compute, jobs_of
from lotterylib.runs.settings import parse_settings
from tests.stores import artefacts

RECORD = Path(__file__).with_name("results_stay.json")
RUNS = (
    {"task": "acceptability", "preset": "paper", "seeds": [1, 2]},
    {"task": "similarity", "preset": "official", "seeds": [1, 2], "batch_order": "random"},
)
DRAWN = (("structured", "bad", 1), ("structured", "random", 2), ("magnitude", "random", 1))


def everything(store: Path) -> dict[str, str]:
    """Compute all stages of the runs, and the SHA-256 of every file that does not tell the time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for run in RUNS:
            values = {"encoder": "tiny", "budget": "smoke", "train_rows": 24, "dev_rows": 16}
            experiment = open_experiment(parse_settings(**values, **run, store=str(store)))
            for job in jobs_of(experiment.settings, ALL):
                compute(experiment, job, lambda share, found: None)
            for method, kind, number in DRAWN:
                experiment.score(1, method, kind, "pruned", number=number)
            experiment.score(1, "structured-half-dev", "good", "pruned", number=1)
    finally:
        torch.set_num_threads(threads)
    found = artefacts(store)
    return {name: hashlib.sha256(data).hexdigest()[:16] for name, data in sorted(found.items())}


def machine() -> str:
    """Roundings differ between versions and processors, names do not."""
    known = "vendor_id", "cpu family", "model", "stepping", "flags"
    processors = Path("/proc/cpuinfo")  # only Linux has it
    first, *_ = (processors.read_text() if processors.is_file() else "").split("\n\n")
    told = dict(line.split(":", 1) for line in first.splitlines() if ":" in line)
    lines = [value for name, value in told.items() if name.strip() in known]
    processor = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:8]
    capability = torch.backends.cpu.get_cpu_capability()
    return f"torch {torch.__version__}, {capability}, processor {processor}"


@pytest.mark.long
def test_nothing_that_is_stored_has_changed(tmp_path):
    recorded = json.loads(RECORD.read_text())
    found = everything(tmp_path)
    assert list(found) == list(recorded["files"])
    if recorded["machine"] == machine():
        changed = [name for name, digest in found.items() if recorded["files"][name] != digest]
        assert not changed


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        files = everything(Path(folder))
    RECORD.write_text(json.dumps({"machine": machine(), "files": files}, indent=0) + "\n")
