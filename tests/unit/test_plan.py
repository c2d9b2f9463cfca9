"""What a run has to do still, where each job stands, and how long the rest takes."""

from unittest.mock import Mock

import numpy as np
import pytest
import torch

from lotterylib.batches import Encoded
from lotterylib.cli import main
from lotterylib.errors import LotteryError
from lotterylib.runs.jobs import ALL, Job, compute, jobs_of, key_of, pieces_of, ticket_jobs
from lotterylib.runs.plan import (
    COSTS,
    Pace,
    Standing,
    _typical,
    describe,
    expected_seconds,
    kind_of,
    measure,
    seconds_left,
    standing_of,
)
from lotterylib.runs.settings import parse_settings
from tests.small import small_experiment

PAGES = ("04_subnetworks",)
PACE = Pace(training=0.5, reading=0.25, opening=2.0)


@pytest.fixture
def made(tmp_path):
    return small_experiment(tmp_path, seeds=[3, 1], epochs=2)


def expected(made, *job):
    (piece,) = (p for p in pieces_of([(made, ALL)]).values() if p.job == Job(*job))
    return expected_seconds(piece, PACE)


def test_what_is_expected_of_a_job_goes_by_the_lengths_of_the_tasks_own_rows(made):
    train, dev = (sum(split.lengths) for split in made.splits)
    tuned = 2 * 0.5 * train + 0.25 * dev
    assert expected(made, "finetune", 3) == 2 + tuned
    assert expected(made, "search", 3, "magnitude") == 2 + COSTS["search magnitude"][1] * dev / 4
    # Heads are few here: patterns and ablation go by their number.
    assert expected(made, "patterns", 3, "", "pre-trained, raw") == 2 + 1.9 * 12 / 72
    assert expected(made, "classifier", 0) == 27


@pytest.mark.parametrize("task", ["similarity", "acceptability"])
def test_every_job_is_in_the_table_of_costs(task):
    settings = parse_settings(task, preset="official")
    kinds = {kind_of(job) for job in (*jobs_of(settings, ALL), *ticket_jobs(settings, [7]))}
    assert kinds <= set(COSTS)
    assert set(COSTS) - kinds <= {"guess"}


@pytest.mark.parametrize("order", ["buckets", "random"])
def test_steps_and_passes_are_timed_and_leave_no_artefact_but_tokens(order, tmp_path):
    made = small_experiment(tmp_path, batch_order=order)
    pace = measure(made)
    assert min(pace.training, pace.reading, pace.opening) > 0
    assert [path.parts[-3].split("-")[0] for path in tmp_path.rglob("config.json")] == ["word"]


def test_rows_are_timed_from_around_the_quartiles_of_the_lengths(rng):
    features = [{"input_ids": [0] * int(length)} for length in rng.permutation(np.arange(1, 101))]
    rows = _typical(Encoded(features, torch.zeros(100), None), 8)
    assert sorted(rows.lengths) == [24, 25, 26, 27, 74, 75, 76, 77]


def test_a_model_that_does_not_fit_is_a_sentence(made, monkeypatch):
    full = Mock(side_effect=RuntimeError("CUDA error: out of memory\nCompile with this and that"))
    monkeypatch.setattr(made, "pretrained", full)
    with pytest.raises(LotteryError, match=r"can be computed here: .*of memory$"):
        measure(made)


def standings(made, pages=PAGES):
    return {place: standing_of(piece) for place, piece in pieces_of([(made, pages)]).items()}


def counts(made):
    states = [each.state for each in standings(made).values()]
    return {name: states.count(name) for name in ("done", "running", "failed", "missing")}


def test_every_job_is_in_one_state(made):
    jobs = jobs_of(made.settings, PAGES)
    assert counts(made) == {"done": 0, "running": 0, "failed": 0, "missing": len(jobs)}
    compute(made, Job("finetune", 3))
    compute(made, Job("search", 3, "magnitude"))
    made.store.record_failure(key_of(made, Job("search", 3, "structured")), LotteryError("No."))
    with made.store._claimed(key_of(made, Job("finetune", 1))):
        found = counts(made)
    assert found == {"done": 2, "running": 1, "failed": 1, "missing": len(jobs) - 4}
    assert counts(made)["running"] == 0
    (failed,) = (s for s in standings(made).values() if s.state == "failed")
    assert (failed.piece.job.label, failed.piece.job.seed) == ("search structured", 3)
    assert failed.reason == "No."


def test_without_measurement_what_is_left_goes_by_what_was_done(made):
    found = standings(made, ALL)
    assert seconds_left(found, None) == {}
    (place,) = (p for p, each in found.items() if each.piece.job.stage == "classifier")
    found[place] = Standing(found[place].piece, "done", seconds=2 * (25 + Pace().opening))
    left = seconds_left(found, None)
    assert left == {
        other: pytest.approx(2 * expected_seconds(each.piece, Pace()))
        for other, each in found.items()
        if other != place
    }
    assert max(left.values()) < 600  # rows are few, and the defaults are seconds


def test_the_table_counts_jobs_by_stage_and_tells_the_time_of_so_many_processes(made):
    compute(made, Job("pruned", 3, "magnitude", "good"))
    found = standings(made)
    left = dict.fromkeys(seconds_left(found, None), 60.0)
    *lines, last = describe(found, left, 2).splitlines()
    assert [line.split() for line in lines] == [
        ["done", "running", "failed", "missing", "time", "left"],
        ["baseline", "0", "0", "0", "1", "00:30"],
        ["finetune", "1", "0", "0", "1", "00:30"],
        ["search", "1", "0", "0", "3", "01:30"],
        ["pruned", "1", "0", "0", "11", "05:30"],
        ["retrained", "0", "0", "0", "12", "06:00"],
    ]  # 28 jobs of a minute, which need not wait for each other for long
    assert last == "3 of 31 jobs are done. The rest will take about 14:00 with 2 processes."
    assert "'lottery plan' tells how long" in describe(found, {}, 2)


@pytest.mark.parametrize(
    ("known", "slow"),
    [
        ({"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": False}, True),
        ({"architecture": "x86_64", "avx512_bf16": True, "amx_bf16": False}, False),
        ({"architecture": "arm64", "bf16": True}, False),
        ({"architecture": "ppc64le"}, False),  # what it has is not known
        ({}, False),
    ],
)
def test_a_processor_without_bfloat16_is_told_of(tmp_path, monkeypatch, known, slow):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known)
    for precision in ("bfloat16", "float32", "auto"):
        found = standings(small_experiment(tmp_path, precision=precision))
        said = describe(found, seconds_left(found, PACE), 1)
        assert ("no instructions for bfloat16" in said) == (slow and precision == "bfloat16")


def test_the_commands_tell_it(small_runs, tmp_path, monkeypatch, capsys):
    request = ["acceptability", "--encoder", "tiny", "--budget", "smoke", "--seeds", "7"]
    request += ["--train-rows", "16", "--dev-rows", "16", "--store", str(tmp_path), "--no-pages"]
    request += ["--jobs", "1"]
    (tmp_path / "10_variants.ipynb").touch()  # a page that nobody asked for
    monkeypatch.chdir(tmp_path)
    assert main(["plan", *request]) == 0
    told = capsys.readouterr().out
    assert "0 of 24 jobs are done. The rest will take about 0" in told
    assert main(["status", *request]) == 3
    assert "0 of 24 jobs are done. 'lottery plan' tells" in capsys.readouterr().out
    bad = [*request, "--learning-rate", "1e30", "--epochs", "2"]
    assert main(["run", *bad]) == 1
    said = capsys.readouterr().err
    assert "1 failed; 19 jobs that need them were left out" in said
    assert main(["status", *bad]) == 1
    assert "seed 7: finetune failed: The loss on Acceptability" in capsys.readouterr().out
    assert main(["run", *request]) == 0
    assert "The rest will take about 0" in capsys.readouterr().err
    assert main(["status", *request]) == 0
    assert "Nothing is left to compute." in capsys.readouterr().out
