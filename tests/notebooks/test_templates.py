"""The templates: their shape, and every one of them run on the smoke budget."""

import itertools
import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import papermill
import pytest
import yaml

from lotterylib.errors import LotteryError
from lotterylib.report.identity import claim, requests_of
from lotterylib.report.imported import import_masks
from lotterylib.report.pages import AUDIT, OVERVIEW, TICKETS, render, templates, write_contents
from lotterylib.report.published import publish
from lotterylib.runs.experiment import open_experiment
from lotterylib.runs.jobs import ALL
from lotterylib.runs.lottery import retrained, tickets_in_order
from lotterylib.runs.presets import PAPER_SEEDS, PRESETS
from lotterylib.runs.settings import given_by, names, parse_settings, reference
from lotterylib.runs.store import RunStore
from lotterylib.tasks import TASKS

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
TEMPLATES = templates(NOTEBOOKS)
OF_A_TASK = [path for path in TEMPLATES if path.name not in (OVERVIEW, AUDIT, TICKETS)]
SMOKE = {"encoder": "tiny", "budget": "smoke"}


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs_of(notebook):
    """Everything that a notebook shows, as text."""
    return json.dumps([output for cell in code_cells(notebook) for output in cell.outputs])


@pytest.fixture(params=TEMPLATES, ids=lambda path: path.stem)
def template(request):
    return request.param


@pytest.fixture
def notebook(template):
    return nbformat.read(template, as_version=4)


def test_template_has_no_outputs_and_the_plain_kernel(notebook):
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert not any(cell.outputs or cell.execution_count for cell in code_cells(notebook))


@pytest.mark.parametrize("template", OF_A_TASK, ids=lambda path: path.stem)
def test_a_page_of_a_task_begins_with_what_was_found(template):
    title, parameters, check, set_up, heading, finding, *rest = nbformat.read(template, 4).cells
    assert title.source.startswith("# ")
    folded = [cell.metadata["tags"][-1] for cell in (parameters, check, set_up)]
    assert folded == ["hide-input", "remove-cell", "hide-input"]
    assert heading.source == "## What we found"
    assert "Markdown(" in finding.source
    figure = next(cell for cell in rest if cell.cell_type == "code")
    assert figure.metadata["mystnb"]["image"]["alt"]


def test_template_keeps_the_agreed_shape(notebook):
    assert 25 <= len(notebook.cells) <= 50
    # The cell of parameters is as long as there are parameters.
    own = [c for c in code_cells(notebook) if "parameters" not in c.metadata.get("tags", [])]
    lengths = [len(re.findall(r"^ *[^#\s]", cell.source, re.M)) for cell in own]
    assert statistics.median(lengths) <= 7
    assert max(lengths) <= 30
    prose = [cell.source for cell in notebook.cells if cell.cell_type != "code"]
    assert [place for place, text in enumerate(prose) if text.startswith("# ")] == [0]
    assert any(text.startswith('> "') and "(2020)" in text for text in prose)
    assert any("## What" in text for text in prose)


def test_template_holds_no_label_and_says_what_is_on_its_pictures(notebook):
    # A template is rendered once per task: a label would stand in the book many times.
    for cell in notebook.cells:
        assert not re.search(r"^\(.+\)=$|:name:|:label:|\{exercise", cell.source, re.M)
        if cell.cell_type == "code" and re.search(r"^figures\.(?!METRIC)", cell.source, re.M):
            assert len(cell.metadata["mystnb"]["image"]["alt"]) > 40


def test_every_page_of_a_task_has_a_template_and_the_other_way_round():
    assert sorted(path.stem for path in OF_A_TASK) == sorted(ALL)
    assert len(TEMPLATES) == len(OF_A_TASK) + 3


def test_every_parameter_is_typed_and_explained(template):
    described = papermill.inspect_notebook(str(template))
    over_tasks = {OVERVIEW: ["encoder", "pages"], AUDIT: ["run_store", "pages", "variants"]}
    assert list(described) == over_tasks.get(template.name, names())
    for name, parameter in described.items():
        assert parameter["inferred_type_name"] in ("str", "int", "float", "bool"), name
        assert len(parameter["help"]) >= 8, name


def parameter_cell():
    """The source of the cell of parameters: each typed, with its default and what it is. What a
    preset may set is None, so that the preset's value holds unless another is given.
    """
    by_preset = {name for row in PRESETS.values() for name in row}
    lines = []
    for row in reference():
        kinds = {"whole number": "int", "number": "float", "true or false": "bool"}
        kind, default, about = kinds.get(row["type"], "str"), row["default"], row["about"]
        if row["name"] == "task":
            default = "acceptability"
        if kind == "str":
            default = f'"{default}"'
        if row["name"] in by_preset:
            default = "None"
        if row["accepted"] and not all(word in about for word in row["accepted"].split(", ")):
            about += f": {row['accepted']}"
        lines.append(f"{row['name']}: {kind} = {default}  # {about}")
    return "\n".join(lines)


@pytest.mark.parametrize("template", [*OF_A_TASK, NOTEBOOKS / TICKETS], ids=lambda path: path.stem)
def test_the_cell_of_parameters_is_what_the_declaration_gives(notebook):
    (cell,) = (c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
    assert cell.source == parameter_cell()


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """Every template on two tasks, a class and a number, in one store, and what goes over tasks."""
    root = tmp_path_factory.mktemp("rendered")
    for task in ("acceptability", "similarity"):
        settings = parse_settings(task, **SMOKE, store=str(root / "runs"))
        made = open_experiment(settings)
        claim(requests_of([(made, ALL)], root / "pages"))
        publish(made, ALL, root / "pages" / "tiny" / task)
        for path in OF_A_TASK:
            render(path, root / "pages" / "tiny" / task / path.name, given_by(settings))
    overview = {"encoder": "tiny", "pages": str(root / "pages")}
    render(NOTEBOOKS / OVERVIEW, root / "pages" / "tiny" / "overview" / OVERVIEW, overview)
    write_authors_masks(root / "authors")
    import_masks(root / "authors", RunStore(root / "runs"))
    audit = {"run_store": str(root / "runs"), "pages": str(root / "pages")}
    render(NOTEBOOKS / AUDIT, root / "pages" / "authors" / "audit" / AUDIT, audit)
    return root


def write_authors_masks(root):
    """Random masks in the layout of the authors' repository, for every task and seed."""
    draw = np.random.default_rng(0)
    for task, seed in itertools.product(TASKS.values(), PAPER_SEEDS):
        if task.is_bundled:
            continue
        folder = root / "masks" / "heads_mlps" / task.tsv_folder / f"seed_{seed}"
        folder.mkdir(parents=True)
        np.save(folder / "head_mask.npy", (draw.random((12, 12)) < 0.6).astype(float))
        np.save(folder / "mlp_mask.npy", (draw.random(12) < 0.6).astype(float))


def test_an_audit_of_heads_alone_is_whole(tmp_path):
    """Few seeds of one task, heads alone: a page nevertheless, which says what it is of."""
    for seed in (7, 42):
        folder = tmp_path / "authors" / "masks" / "heads" / "RTE" / f"seed_{seed}"
        folder.mkdir(parents=True)
        np.save(folder / "head_mask.npy", (np.arange(144) < 100 + seed).reshape(12, 12))
    import_masks(tmp_path / "authors", RunStore(tmp_path / "runs"))
    parameters = {"run_store": str(tmp_path / "runs"), "pages": str(tmp_path / "pages")}
    render(NOTEBOOKS / AUDIT, tmp_path / AUDIT, parameters)
    told = outputs_of(check_ran(tmp_path / AUDIT))
    assert "* heads alone: 1 task, 2 seeds" in told
    assert "0 of 1 comparisons give the known values" in told
    # 107 and 142 of 144 heads lie within each other too often by chance
    assert "on 0 of 0 tasks (0 after Holm), and on 1 the test has no way to tell" in told


def check_ran(page):
    notebook = nbformat.read(page, as_version=4)
    code = code_cells(notebook)
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    return notebook


@pytest.mark.parametrize("task", ["acceptability", "similarity"])
def test_pages_ran_to_the_end_without_an_error(rendered, task):
    pages = sorted((rendered / "pages" / "tiny" / task).glob("*.ipynb"))
    assert [page.name for page in pages] == [path.name for path in OF_A_TASK]
    for page in pages:
        assert check_ran(page).metadata.papermill.parameters.task == task


def test_the_overview_and_the_audit_ran_to_the_end(rendered):
    text = check_ran(rendered / "pages" / "tiny" / "overview" / OVERVIEW)
    assert text.cells[0].source.startswith("# All tasks")
    audit = check_ran(rendered / "pages" / "authors" / "audit" / AUDIT)
    assert "0 of 7 comparisons give the known values" in outputs_of(audit)  # masks are random


def test_the_whole_lottery_tells_of_the_tickets_that_were_retrained(tmp_path):
    settings = parse_settings("acceptability", **SMOKE, seeds=[3], store=str(tmp_path / "runs"))
    for ticket in tickets_in_order(3)[:2]:
        retrained(open_experiment(settings), 3, ticket)
    page = tmp_path / TICKETS
    render(NOTEBOOKS / TICKETS, page, given_by(settings))
    notebook = check_ran(page)
    assert notebook.cells[0].source.startswith("# Acceptability (generated): the whole lottery")
    told = "So far 2 of 20 tickets of half the units have been retrained"
    assert told in outputs_of(notebook)
    assert len(list((tmp_path / "runs").glob("*/*/ticket-retrained-*"))) == 2


def test_pages_name_task_encoder_data_preset_device_and_seconds(rendered):
    page = rendered / "pages" / "tiny" / "similarity" / "04_subnetworks.ipynb"
    notebook = nbformat.read(page, as_version=4)
    assert notebook.cells[0].source.startswith("# Similarity (generated): ")
    for word in ("random weights", "generated by lotterylib", "paper", "CPU", "seconds", "torch 2"):
        assert word in outputs_of(notebook), word


def test_a_second_run_computes_nothing_and_gives_the_same_page(rendered):
    store, task = rendered / "runs", "acceptability"
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}
    page = rendered / "pages" / "tiny" / task / "04_subnetworks.ipynb"
    first = page.read_bytes()
    settings = parse_settings(task, **SMOKE, store=str(store))
    render(NOTEBOOKS / page.name, page, given_by(settings))
    after = {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}
    assert after == before
    assert page.read_bytes() == first


def test_a_wrong_parameter_ends_the_notebook_before_anything_is_loaded(tmp_path):
    page = tmp_path / "page.ipynb"
    parameters = given_by(parse_settings("cola", **SMOKE, store=str(tmp_path / "runs")))
    with pytest.raises(LotteryError, match=r"cell 3: LotteryError: Unknown task 'colla'.*'cola'"):
        render(OF_A_TASK[0], page, parameters | {"task": "colla"})
    assert not page.exists()
    assert not (tmp_path / "runs").exists()
    failed = nbformat.read(page.with_suffix(".failed.ipynb"), as_version=4)
    assert not [cell for cell in code_cells(failed)[4:] if cell.outputs]


def test_papermill_alone_refuses_a_misspelt_parameter(tmp_path):
    # papermill itself only warns, and would run the default task.
    done = subprocess.run(
        [
            *(sys.executable, "-m", "papermill", OF_A_TASK[0], tmp_path / "out.ipynb"),
            *("-p", "taks", "rte", "--no-progress-bar"),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": ""},
    )
    assert done.returncode == 1
    assert "Unknown parameter 'taks'. Did you mean 'task'?" in done.stderr


def test_contents_list_the_pages_there_are(tmp_path):
    pages = tmp_path / "results"
    others = ("authors/audit/12_a.ipynb", "lottery/minilm/sst2/13_a.ipynb")
    runs = ("minilm/sst2/01_a.ipynb", "minilm/sst2/02_b.ipynb", "minilm/cola/01_a.ipynb")
    for name in (*others, *runs):
        (pages / name).parent.mkdir(parents=True, exist_ok=True)
        (pages / name).write_text("{}")
    contents = tmp_path / "_toc.yml"
    write_contents(pages)
    assert not contents.exists()  # not the folder of a book
    book = {"root": "intro", "parts": [{"caption": "The runs"}, {"caption": "More"}]}
    contents.write_text(yaml.safe_dump(book))
    write_contents(pages)
    sections = [{"file": "results/minilm/sst2/02_b"}]
    book["parts"][0]["chapters"] = [
        {"file": "results/minilm/cola/01_a"},
        {"file": "results/minilm/sst2/01_a", "sections": sections},
        {"file": "results/lottery/minilm/sst2/13_a"},
        {"file": "results/authors/audit/12_a"},
    ]
    assert yaml.safe_load(contents.read_text()) == book
