"""What a run leaves to Snakemake, what it refuses, and how Snakemake understands it."""

import json
import os
import re
import shlex
import sys
from pathlib import Path

import pytest
import yaml

from lotterylib import cli
from lotterylib.errors import LotteryError
from lotterylib.runs import grid
from lotterylib.runs.jobs import ALL, Job, compute, key_of, pieces_of
from lotterylib.runs.methods import CORE
from lotterylib.runs.settings import parse_settings
from tests.grid.tiny import ROOT, execute
from tests.small import small_experiment

NOTEBOOKS = ROOT / "notebooks"
PROFILES = sorted(path.parent for path in NOTEBOOKS.glob("profiles/*/config.yaml"))

needs_snakemake = pytest.mark.skipif(
    grid.importlib.util.find_spec("snakemake") is None, reason="Snakemake is not installed"
)


@pytest.fixture(scope="module", autouse=True)
def _small(small_runs):
    """All of this file runs on few rows."""


@pytest.fixture
def plan(tmp_path):
    """Every page for one seed, the core pages for two, and another task."""
    both, one = (small_experiment(tmp_path, seeds=seeds) for seeds in ([3, 4], [3]))
    other = small_experiment(tmp_path, seeds=[3, 4], task="similarity", preset="official")
    extras = [page for page in ALL if page not in CORE]
    return [(both, list(CORE)), (one, extras), (other, list(CORE))]


def owners(jobs):
    """Every piece of work with the id of the job that has it."""
    pairs = [((j["task"], Job(*work)), j["id"]) for j in jobs for work in j["work"]]
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def test_every_piece_of_work_is_in_one_job_after_what_it_needs(plan):
    jobs = grid.jobs_for(plan)
    assert json.loads(json.dumps(jobs)) == jobs
    pieces = pieces_of(plan)
    owner, needs = owners(jobs), {job["id"]: job["needs"] for job in jobs}
    assert owner.keys() == {(piece.experiment.task.name, piece.job) for piece in pieces.values()}
    for piece in pieces.values():
        mine = owner[piece.experiment.task.name, piece.job]
        for place in piece.needs:
            needed = owner[pieces[place].experiment.task.name, pieces[place].job]
            assert needed == mine or needed in needs[mine], piece.name
    done = set()
    while left := [name for name in needs if name not in done]:
        ready = [name for name in left if done.issuperset(needs[name])]
        assert ready  # else they wait for each other
        done.update(ready)


def test_a_job_is_what_a_page_wants_of_a_seed(plan):
    jobs = {job["id"]: job for job in grid.jobs_for(plan)}
    first = jobs["acceptability.3.02_structured_pruning"]
    assert first["needs"] == ["acceptability.3.01_finetune"]
    assert first["work"][:2] == [
        ["search", 3, "structured", "", 0],
        ["pruned", 3, "structured", "good", 0],
    ]
    assert jobs["acceptability.4.06_super_survivors"]["needs"] == [
        "acceptability.3.02_structured_pruning",
        "acceptability.4.02_structured_pruning",
    ]
    assert "acceptability.0.07_attention_patterns" in jobs  # the classifier
    assert "acceptability.4.10_variants" not in jobs
    settings = plan[2][0].settings
    assert parse_settings(**jobs["similarity.3.01_finetune"]["parameters"]) == settings


def test_what_is_in_the_store_is_no_job(tmp_path):
    made = small_experiment(tmp_path)
    pages = ["01_finetune", "03_magnitude_pruning"]
    assert [job["page"] for job in grid.jobs_for([(made, pages)])] == ["01_finetune"] * 2 + pages[
        1:
    ]
    for piece in pieces_of([(made, pages)]).values():
        compute(made, piece.job)
    assert grid.jobs_for([(made, pages)]) == []
    (tmp_path / key_of(made, Job("search", 3, "magnitude")).path / "trace.json").write_text("[]")
    (job,) = grid.jobs_for([(made, pages)])
    assert (job["page"], job["needs"]) == ("03_magnitude_pruning", [])
    assert job["work"] == [["search", 3, "magnitude", "", 0]]


def write(folder, jobs):
    (folder / "jobs.json").write_text(json.dumps(jobs))
    return folder / "jobs.json"


def test_what_computes_a_job_imports_nothing_that_plots(tmp_path):
    made = small_experiment(tmp_path / "runs")
    file = write(tmp_path, grid.jobs_for([(made, ["01_finetune", "02_structured_pruning"])]))
    code = (
        "import sys; from lotterylib.runs import grid;"
        "status = [grid.main(sys.argv[1], name) for name in sys.argv[2:]];"
        "sys.exit(str({'matplotlib', 'seaborn', 'papermill'} & sys.modules.keys() or status))"
    )
    names = ["acceptability.3.01_finetune", "acceptability.3.02_structured_pruning"]
    done = execute([sys.executable, "-c", code, file, *names], tmp_path)
    assert done.stderr.strip().endswith("[0, 0]"), done.said
    assert re.search(r"^finetune, seed 3: matthews -?[\d.]+", done.stdout, re.M)
    assert len(list((tmp_path / "runs").rglob("trace.json"))) == 1


def test_a_grid_that_never_started_tells_no_old_failure(tmp_path, monkeypatch):
    made = small_experiment(tmp_path)
    plan = [(made, ["01_finetune"])]
    key = key_of(made, Job("finetune", 3))

    def fail(_engine):
        made.store.record_failure(key, LotteryError("Now."))

    made.store.record_failure(key, LotteryError("Long ago."))
    os.utime(made.store._failure(key), (1e9, 1e9))
    monkeypatch.setattr(grid, "_run", lambda engine: None)
    with pytest.raises(LotteryError, match="Snakemake ended before all was computed"):
        grid.compute_as_jobs(plan, PROFILES[0], NOTEBOOKS, 1)
    monkeypatch.setattr(grid, "_run", fail)
    failures = grid.compute_as_jobs(plan, PROFILES[0], NOTEBOOKS, 1)
    assert [(each.reason, each.itself) for each in failures] == [("", False), ("Now.", True)]


def test_a_job_has_the_threads_it_is_given(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr("torch.set_num_threads", given.append)
    made = small_experiment(tmp_path / "runs", threads=3)
    (job, *_) = grid.jobs_for([(made, ["01_finetune"])])
    assert job["parameters"]["threads"] == 3
    assert grid.main(str(write(tmp_path, [job])), job["id"]) == 0
    assert given == [3]


def test_a_job_computes_what_it_can_and_tells_what_failed(tmp_path, capsys):
    made = small_experiment(tmp_path / "runs")
    file = write(tmp_path, grid.jobs_for([(made, ["02_structured_pruning"])]))
    place = tmp_path / "runs" / key_of(made, Job("search", 3, "structured")).path
    place.parent.mkdir(parents=True)
    place.write_text("in the way")
    assert grid.main(str(file), "acceptability.3.02_structured_pruning") == 1
    said = capsys.readouterr().out
    assert re.search("search structured, seed 3: FAILED: .* cannot be kept in the run store", said)
    assert "importance batch, seed 3: measured" in said
    assert "pruned" not in said  # which needs the search


def test_a_profile_without_snakemake_is_a_sentence(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(grid.importlib.util, "find_spec", lambda name: None)
    assert cli.main(["run", "--profile", "local"]) == 2
    assert "pip install 'lotterylib[grid]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@needs_snakemake
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--profile", "slrum"], "Unknown profile 'slrum'. Did you mean 'slurm'?"),
        (["--profile", "local", "--notebooks", "."], "holds no Snakefile"),
    ],
)
def test_a_bad_profile_is_a_sentence(capsys, monkeypatch, tmp_path, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", "--notebooks", str(NOTEBOOKS), *arguments]) == 2
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_profile_can_be_a_folder_of_ones_own(monkeypatch, tmp_path):
    monkeypatch.setattr(grid.importlib.util, "find_spec", lambda name: "there")
    (tmp_path / "config.yaml").write_text("cores: 1\n")
    assert grid.find_profile(str(tmp_path), NOTEBOOKS, Path("runs")) == tmp_path


def test_a_cluster_needs_a_python_whose_path_has_no_space(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/my clone/.venv/bin/python")
    with pytest.raises(LotteryError, match=r"'/my clone/.* must not hold spaces"):
        grid.find_profile("slurm", NOTEBOOKS, Path("runs"))
    assert grid.find_profile("local", NOTEBOOKS, Path("runs")).name == "local"


@pytest.mark.parametrize("profile", PROFILES, ids=lambda path: path.name)
def test_every_profile_asks_to_go_on_after_a_failure_and_after_a_kill(profile):
    content = yaml.safe_load((profile / "config.yaml").read_text())
    assert content["keep-going"]
    assert content["rerun-incomplete"]
    assert content["nolock"]


JOBS = [
    {"id": "rte.0.01_finetune", "needs": [], "parameters": {}},
    {"id": "rte.7.01_finetune", "needs": [], "parameters": {"threads": 2}},
    {"id": "rte.7.02_structured_pruning", "needs": ["rte.7.01_finetune"], "parameters": {}},
    {
        "id": "rte.7.06_super_survivors",
        "needs": ["rte.7.01_finetune", "rte.7.02_structured_pruning"],
        "parameters": {},
    },
]


def dry_run(folder, *more, profile="local"):
    """What Snakemake would do with the jobs."""
    folder.mkdir()
    file = write(folder, JOBS).relative_to(folder.parent)
    engine = grid.command(file, NOTEBOOKS / "profiles" / profile, NOTEBOOKS, 2)
    done = execute([*engine, "--dry-run", *more], folder.parent)
    assert done.returncode == 0, done.said
    return done.said


@needs_snakemake
def test_snakemake_reads_the_file_of_jobs_and_names_reach_the_shell_as_they_are(tmp_path):
    """Names with spaces and signs; and it reads nothing else, which would take seconds a job."""
    assert not re.search(r"^(import|from) lotterylib", (NOTEBOOKS / "Snakefile").read_text(), re.M)
    odd = "a = b, c: 007"
    said, found = dry_run(tmp_path / odd, "--printshellcmds"), {}
    for block in re.findall(r"^rule job:.*?(?=\n\S)", said, re.S | re.M):
        fields = dict(re.findall(r"^    (\w+): (.*)$", block, re.M))
        needs = re.findall(rf"{re.escape(odd)}/(\S+)\.done", fields.get("input", ""))
        found[fields["wildcards"].removeprefix("job=")] = needs
    assert found == {job["id"]: job["needs"] for job in JOBS}
    scripts = re.findall(r"^Shell command: (.* -m lotterylib.runs.grid .*)$", said, re.M)
    assert sorted(shlex.split(script)[3:5] for script in scripts) == [
        [f"{odd}/jobs.json", job["id"]] for job in JOBS
    ]


@needs_snakemake
def test_memory_time_threads_and_gpu_are_asked_for(tmp_path):
    said = dry_run(tmp_path / "jobs", profile="slurm")
    assert re.findall(r"wildcards: job=(\S+)\n    threads: (\d+)", said) == [(JOBS[1]["id"], "2")]
    asked = re.findall(r"^rule job:.*?resources: (.*?)\n", said, re.S | re.M)
    assert len(asked) == len(JOBS)
    for resources in asked:
        assert "gpu=1" in resources
        assert re.search(r"mem_mb=\d{4,}", resources)
        assert re.search(r"runtime=\d{2,}", resources)


@pytest.mark.parametrize("name", ["store", "notebooks"])
@pytest.mark.parametrize("odd", ["a'; touch harm; '", "$(x)", "`x`", '"', "a\nb", "x;y", "*", "\\"])
def test_what_a_shell_could_read_as_its_own_is_refused(name, odd, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / odd).mkdir()
    monkeypatch.setattr(grid.importlib.util, "find_spec", lambda name: "there")
    with pytest.raises(LotteryError, match="with --profile, paths hold letters"):
        grid.find_profile("local", *(Path(odd if name == n else n) for n in ("notebooks", "store")))
    assert cli.main(["run", "rte", "--profile", "local", f"--{name}={odd}"]) == 2
    assert "with --profile, paths hold letters" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [odd]
