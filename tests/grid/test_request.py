"""What the grid makes of a request, what it refuses, and the graph of its jobs."""

import json
import re
import shlex
import sys

import pytest
import yaml

from lotterylib import cli, commands
from lotterylib.errors import LotteryError
from lotterylib.runs import grid
from lotterylib.runs.jobs import cells_of
from lotterylib.runs.methods import CORE, EXTRAS, SEVERAL_SEEDS
from tests.grid.tiny import REQUEST as TINY
from tests.grid.tiny import ROOT, execute

NOTEBOOKS = ROOT / "notebooks"
REQUEST = TINY | {"notebooks": str(NOTEBOOKS)}
PROFILES = sorted(path.parent for path in NOTEBOOKS.glob("profiles/*/config.yaml"))
ODD = {"store": "007", "pages": "a b=c,d: e~", "batch_order": "random"}

needs_snakemake = pytest.mark.skipif(
    grid.importlib.util.find_spec("snakemake") is None, reason="Snakemake is not installed"
)


def parse(*arguments):
    return cli.build_parser().parse_args(["run", *arguments])


def snakemake(folder, *arguments, **config):
    given = [f"{name}={json.dumps([value])}" for name, value in config.items()]
    return execute(
        [
            *(
                sys.executable,
                "-m",
                "snakemake",
                *arguments,
                "--snakefile",
                NOTEBOOKS / "Snakefile",
            ),
            *(["--config", *given] if given else []),
        ],
        folder,
    )


def graph(folder, **config):
    """The jobs that a request needs, each with those that it waits for."""
    done = snakemake(folder, "--dry-run", **config)
    assert done.returncode == 0, done.said
    jobs, makers = {}, {}
    for block in re.findall(r"^(?:local)?rule .*?(?=\n\S)", done.said, re.S | re.M):
        fields = dict(re.findall(r"^    (\w+): (.*)$", block, re.M))
        values = dict(part.split("=") for part in fields.get("wildcards", "=").split(", "))
        names = [values[name] for name in ("task", "seeds", "notebook") if name in values]
        job = (re.match(r"\w+ (\w+)", block)[1], *names)
        jobs[job] = fields.get("input", "").split(", ")
        made = fields.get("output", "").replace(" (update)", "").split(", ")
        makers |= dict.fromkeys(made, job)
    return {job: {makers[file] for file in files if file in makers} for job, files in jobs.items()}


def test_the_settings_are_the_options_of_lottery_run():
    own = {"command", "handler", "jobs", "no_pages", "no_overview", "profile", "config"}
    options = set(vars(parse())) - own - {"assignments", "replace"}
    assert {"with" if name == "extras" else name for name in options} == set(grid.SETTINGS)


def test_without_settings_the_grid_is_that_of_the_plain_command():
    assert vars(grid.read_grid({}).options) == vars(parse()) | {"pages": "book/results"}


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"sed": 1}, "Unknown setting 'sed'. Did you mean 'seeds'?"),
        ({"budget": "laptops"}, "Unknown budget 'laptops'. Did you mean 'laptop'?"),
        ({"tasks": "colla,rte"}, "Unknown task 'colla'. Did you mean 'cola'?"),
        ({"seeds": "1,x"}, "The seed 'x' is not a whole number"),
        ({"epochs": "two"}, "The parameter epochs is 'two': it must be a whole number."),
        ({"with": "variant"}, "Unknown page 'variant'. Did you mean 'variants'?"),
        ({"data_dir": "nowhere"}, "The data directory nowhere does not exist."),
        ({"store": None, "encoder": "bert"}, "Unknown encoder 'bert'."),
    ],
)
def test_a_bad_setting_is_a_sentence(config, sentence):
    with pytest.raises(LotteryError) as caught:
        grid.read_grid(config)
    assert sentence in str(caught.value)


def test_the_stages_compute_every_cell_of_the_request_and_no_other():
    made = grid.read_grid(REQUEST | {"tasks": "rte,stsb", "seeds": "3,4,5", "with": "all"})
    for settings, pages in made.request:
        wanted = set(cells_of(settings, pages))
        found = set()
        for stage in made.stages:
            if stage.task == settings.task.name:
                seeds = tuple(map(int, stage.seeds.split("+")))
                found |= set(cells_of(settings.but(seeds=seeds), [stage.notebook]))
        assert found == wanted


def test_other_amounts_have_other_markers_and_other_seeds_have_not():
    def markers(**changes):
        return grid.read_grid(REQUEST | changes).markers

    assert markers() == markers(seeds="7,8,9") == markers(tasks="rte")
    different = [markers(), *(markers(**{name: "5"}) for name in ("train_rows", "epochs"))]
    different += [markers(preset="official"), markers(batch_order="random"), markers(store="b")]
    assert len(set(different)) == len(different)


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
    options = parse(f"--notebooks={NOTEBOOKS}", f"--profile={tmp_path}")
    assert grid.check_profile(options) == tmp_path


@pytest.mark.parametrize("profile", PROFILES, ids=lambda path: path.name)
def test_every_profile_asks_to_go_on_after_a_failure_and_after_a_kill(profile):
    content = yaml.safe_load((profile / "config.yaml").read_text())
    assert content["keep-going"]
    assert content["rerun-incomplete"]
    assert content["nolock"]


def test_the_profiles_are_those_that_the_command_names():
    assert [path.name for path in PROFILES] == ["kubernetes", "local", "slurm"]


@needs_snakemake
def test_texts_reach_the_grid_unchanged():
    from snakemake.cli import parse_config

    given = [f"--{name.replace('_', '-')}={value}" for name, value in ODD.items()]
    options = parse("rte", "cola", "--seeds", "7", "--learning-rate", "2e-5", *given)
    command = grid.command(options, PROFILES[0])
    made = grid.read_grid(parse_config(command[command.index("--config") + 1 :]))
    assert commands.given_by_options(made.options) == commands.given_by_options(options)
    assert made.options.pages == options.pages


@needs_snakemake
def test_a_mistake_stops_the_snakefile_with_its_sentence(tmp_path):
    done = snakemake(tmp_path, "--dry-run", budget="laptops")
    assert done.returncode == 1
    assert "Unknown budget 'laptops'. Did you mean 'laptop'?" in done.said
    assert "Traceback" not in done.said


@needs_snakemake
def test_stages_wait_for_what_they_build_on_and_for_nothing_else(tmp_path):
    tasks = ("rte", "similarity")
    jobs = graph(tmp_path, **(REQUEST | {"tasks": ",".join(tasks), "with": "variants"}))
    single = [page for page in (*CORE, EXTRAS["variants"]) if page not in SEVERAL_SEEDS]
    stages = {("stage", t, seed, page) for t in tasks for seed in "34" for page in single}
    stages |= {("stage", task, "3+4", page) for task in tasks for page in SEVERAL_SEEDS}
    others = {("pages", "rte"), ("pages", "similarity"), ("overview",), ("all",)}
    assert set(jobs) == stages | others
    for task in tasks:
        for seed in "34":
            first, structured, magnitude, fourth = (("stage", task, seed, p) for p in CORE[:4])
            assert jobs[first] == set()
            assert jobs[structured] == jobs[magnitude] == {first}
            assert jobs[fourth] == {structured, magnitude}
            assert jobs["stage", task, seed, "10_variants"] == {fourth}
        for page in SEVERAL_SEEDS:
            assert jobs["stage", task, "3+4", page] == {
                ("stage", task, seed, "04_subnetworks") for seed in "34"
            }
        assert jobs["pages", task] == {stage for stage in stages if stage[1] == task}
    assert jobs["overview",] == {("pages", task) for task in tasks}


@needs_snakemake
def test_one_seed_has_no_stages_over_seeds_and_extras_have_the_budgets_few(tmp_path):
    one = graph(tmp_path, **(REQUEST | {"tasks": "rte", "seeds": "3"}))
    assert not [job for job in one if job[-1] in SEVERAL_SEEDS]
    few = graph(tmp_path, **{"tasks": "rte", "with": "variants"})
    seeds = {page: {job[2] for job in few if job[-1] == page} for page in (CORE[0], "10_variants")}
    assert seeds == {CORE[0]: {"1337", "42"}, "10_variants": {"1337"}}


@needs_snakemake
def test_names_with_spaces_and_signs_reach_the_shell_as_they_are(tmp_path):
    config = REQUEST | {"store": "a = b, c: 007", "pages": "~ +x"}
    done = snakemake(tmp_path, "--dry-run", "--printshellcmds", **config)
    commands = [shlex.split(line) for line in done.said.splitlines() if " -m papermill " in line]
    assert commands
    for command in commands:
        assert command[command.index("store") + 1] == config["store"]
        output = command[command.index("papermill") + 2]
        assert output.startswith(config["store"] + "/.grid/")
    runs = [shlex.split(line) for line in done.said.splitlines() if "lotterylib.cli run" in line]
    assert runs
    for run in runs:
        assert f"--store={config['store']}" in run
        assert f"--pages={config['pages']}" in run


@pytest.mark.parametrize("name", ["encoder", "data_dir", "store", "pages", "notebooks"])
@pytest.mark.parametrize("odd", ["a'; touch harm; '", "$(x)", "`x`", '"', "a\nb", "x;y", "*", "\\"])
def test_what_a_shell_could_read_as_its_own_is_refused(name, odd, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / odd).mkdir()
    monkeypatch.setattr(grid.importlib.util, "find_spec", lambda name: "there")
    with pytest.raises(LotteryError, match="with jobs, paths hold letters"):
        grid.read_grid({name: odd})
    given = f"--{name.replace('_', '-')}={odd}"
    assert cli.main(["run", "rte", "--profile", "local", given]) == 2
    assert "with jobs, paths hold letters" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [odd]


@needs_snakemake
def test_memory_time_and_gpu_are_asked_for(tmp_path):
    done = snakemake(
        tmp_path,
        *("--dry-run", "--profile", NOTEBOOKS / "profiles" / "slurm"),
        **(REQUEST | {"tasks": "rte"}),
    )
    assert done.returncode == 0, done.said
    asked = re.findall(r"^rule (stage|pages):.*?resources: (.*?)\n", done.said, re.S | re.M)
    assert {rule for rule, _ in asked} == {"stage", "pages"}
    for _, resources in asked:
        assert "gpu=1" in resources
        assert re.search(r"mem_mb=\d{4,}", resources)
        assert re.search(r"runtime=\d{2,}", resources)
