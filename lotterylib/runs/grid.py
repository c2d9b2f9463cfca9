"""The grid: what a run has to compute as jobs for Snakemake, on this machine or on a cluster.

`lottery run --profile` writes a plain file of jobs, each of them what a page wants of a seed, and
starts Snakemake, which reads it (`notebooks/Snakefile`). Each job then runs this module, and fills
the run store; what is in the store already is no job. Nothing here imports torch before that.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import yaml

from lotterylib.data.files import read_json, write_json
from lotterylib.errors import LotteryError, reason_of, unknown
from lotterylib.runs.settings import given_by, parse_settings
from lotterylib.runs.stopping import Stopped, raise_if_stopped, stoppable

if TYPE_CHECKING:
    from lotterylib.runs.jobs import Plan
    from lotterylib.runs.run import Failure

_READ_BY_SHELLS = re.compile(r"[^\w ./,:=+@~-]")
_GRACE = 3, 27  # seconds for the jobs on this machine to end, then for a cluster's to be cancelled


def find_profile(name: str, notebooks: Path, store: Path) -> Path:
    """The folder of the profile of that name, or at that path; the run store is where the jobs are
    written.

    Raises:
        LotteryError: Snakemake is not installed, there is no such profile or no Snakefile, or a
            path holds what a shell could read as its own, as Snakemake's jobs are scripts; on a
            cluster a space in the path of Python is such a thing.
    """
    for given in (notebooks, store):
        if found := _READ_BY_SHELLS.search(str(given)):
            raise LotteryError(
                f"The path {str(given)!r}: with --profile, paths hold letters, digits, spaces and "
                f"any of ._/,:=+@~- only, not {found[0]!r}."
            )
    if importlib.util.find_spec("snakemake") is None:
        raise LotteryError(
            "The option --profile needs Snakemake: pip install 'lotterylib[grid]' brings it."
        )
    if not (notebooks / "Snakefile").is_file():
        raise LotteryError(
            f"{notebooks} holds no Snakefile: run from the repository, or name the folder with "
            "--notebooks."
        )
    named = {path.parent.name: path.parent for path in notebooks.glob("profiles/*/config.yaml")}
    folder = named.get(name, Path(name))
    if not (folder / "config.yaml").is_file():
        raise unknown("profile", name, sorted(named), ", or the path of a profile")
    profile = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")) or {}
    if profile.get("executor", "local") != "local" and " " in sys.executable:
        raise LotteryError(
            f"The Python at {sys.executable!r}: Snakemake hands it to a cluster without quotes, so "
            "its path must not hold spaces. Make the environment in another folder."
        )
    return folder


def jobs_for(plan: Plan) -> list[dict[str, Any]]:
    """What the store lacks as jobs for Snakemake, as plain values.

    Returns:
        Per page and seed that something is lacking for: `id`; `task`, `seed`, `page`; `needs`, the
        ids that come before; `parameters` of `parse_settings`; `work`, the fields of each
        `jobs.Job`. What several pages want belongs to the first.
    """
    from lotterylib.runs.jobs import lacking, pieces_of

    missing = lacking(pieces_of(plan))
    owner: dict[Path, str] = {}
    found: dict[str, dict[str, Any]] = {}
    for experiment, pages in plan:
        for page in pages:
            for place, piece in pieces_of([(experiment, [page])]).items():
                if place in owner or place not in missing:
                    continue
                task, job = experiment.task.name, piece.job
                name = owner[place] = f"{task}.{job.seed}.{page}"
                where = {"id": name, "task": task, "seed": job.seed, "page": page, "needs": set()}
                what = {"parameters": given_by(experiment.settings), "work": []}
                mine = found.setdefault(name, where | what)
                mine["work"].append(list(vars(job).values()))
                mine["needs"] |= piece.needs
    for name, each in found.items():
        each["needs"] = sorted({owner[p] for p in each["needs"] if p in owner} - {name})
    return list(found.values())


def command(file: Path, profile: Path, notebooks: Path, jobs: int) -> list[str]:
    """The command that has Snakemake do the jobs of a file, so many at once (0: as the profile)."""
    amount = [f"--cores={jobs}", f"--jobs={jobs}"] if jobs else []
    return [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(notebooks / "Snakefile")),
        # In a list of one, quoted, a text stays as it is, whatever it looks like.
        *("--profile", str(profile), *amount, "--config", f"jobs={json.dumps([str(file)])}"),
        "--scheduler=greedy",  # the other one leaves files behind when it is stopped
    ]


def compute_as_jobs(plan: Plan, profile: Path, notebooks: Path, jobs: int) -> list[Failure]:
    """Compute what the store lacks as jobs of Snakemake; arguments as for `command`.

    Returns:
        What is still lacking, each with the reason if it failed itself.

    Raises:
        LotteryError: something is lacking though nothing failed.
    """
    from lotterylib.runs.jobs import lacking, pieces_of
    from lotterylib.runs.run import Failure

    wanted = jobs_for(plan)
    print(f"{len(wanted)} jobs for Snakemake.", file=sys.stderr)
    if not wanted:
        return []
    for experiment, _ in plan:
        _ = experiment.splits  # made once, not by the first few jobs at the same time
    store = plan[0][0].store
    (store.root / ".grid").mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=store.root / ".grid"))
    file = folder / "jobs.json"
    write_json(file, wanted)
    began = file.stat().st_mtime  # by the clock of the store, which may be another machine's
    try:
        _run(command(file, profile, notebooks, jobs))
    except KeyboardInterrupt:
        shutil.rmtree(folder, ignore_errors=True)
        store.tidy()
        raise
    failures = []
    for place, piece in lacking(pieces_of(plan)).items():
        reason = store.failure(piece.key, began)
        failures.append(Failure(place, piece.name, reason, itself=bool(reason)))
    if not failures:
        shutil.rmtree(folder)
    elif not any(failure.itself for failure in failures):
        raise LotteryError(
            f"Snakemake ended before all was computed; what its jobs said is in {folder}. What was "
            "finished is kept; give the same command again to go on."
        )
    return failures


def _run(engine: Sequence[str]) -> None:
    """Run Snakemake; if this process is to stop, it and its jobs are stopped first."""
    # In a group of its own, so that nobody stops it but this process, and all of it.
    with subprocess.Popen(engine, start_new_session=True) as process:
        try:
            process.wait()
        except KeyboardInterrupt:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            for seconds in _GRACE:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(seconds)
                    break
                for job in _jobs_under(process.pid):
                    with suppress(psutil.NoSuchProcess):
                        job.kill()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise


def _jobs_under(snakemake: int) -> list[psutil.Process]:
    """The processes on this machine that do its jobs, without those that cancel a cluster's."""
    with suppress(psutil.NoSuchProcess):
        started = psutil.Process(snakemake).children(recursive=True)
        return [each for each in started if "lotterylib.runs.grid" in " ".join(each.cmdline())]
    return []


def main(file: str, name: str) -> int:
    """In a job: compute it, saying what was found. 1 if something failed."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    (job,) = (each for each in read_json(Path(file)) if each["id"] == name)
    from lotterylib.runs.experiment import open_experiment
    from lotterylib.runs.jobs import Job, as_pieces, compute
    from lotterylib.runs.run import use_threads

    settings = parse_settings(**job["parameters"])
    use_threads(settings, 1)
    experiment = open_experiment(settings)
    failed: set[Path] = set()
    jobs = [Job(*fields) for fields in job["work"]]
    for place, piece in as_pieces(experiment, jobs).items():
        if failed & piece.needs:
            failed.add(place)
            continue
        name = f"{piece.job.label}, seed {piece.job.seed}"
        try:
            print(f"{name}: {compute(experiment, piece.job)}", flush=True)
        except Exception as error:
            raise_if_stopped()
            failed.add(place)
            print(f"{name}: FAILED: {reason_of(error)}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        with stoppable():
            status = main(*sys.argv[1:])
    except Stopped as stopped:
        os._exit(stopped.status)  # what is left to be freed takes seconds
    except LotteryError as error:
        print(error)
        status = 2
    sys.exit(status)
