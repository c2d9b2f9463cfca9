"""The published book: its pages ran to the end, and hold what the contents say."""

import json
import re
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml

from lotterylib.report.pages import LOTTERY, TEMPLATE, TICKETS
from lotterylib.report.paper import find_pages, inventory
from lotterylib.report.results import COLUMNS, load_results
from lotterylib.runs.methods import CORE, EXTRAS, KINDS, METHODS, PHASES

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "book" / "results"
OVER_TASKS = {"overview": "08_overview", "audit": "12_audit"}
FOUND = [*RESULTS.glob("*/*/*.ipynb"), *RESULTS.glob(f"{LOTTERY}/*/*/*.ipynb")]
PAGES = sorted(page for page in FOUND if TEMPLATE.fullmatch(page.name))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}-{page.stem}")
def test_a_published_page_ran_to_the_end_on_the_task_of_its_folder(page):
    notebook = nbformat.read(page, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not any(o.output_type == "error" for cell in code for o in cell.outputs)
    assert notebook.metadata.papermill.exception is None
    if page.parent.name not in OVER_TASKS:
        assert notebook.metadata.papermill.parameters.task == page.parent.name
    assert notebook.metadata.kernelspec.name == "python3"


def test_nothing_published_names_a_place_on_the_machine_it_ran_on():
    for path in [*PAGES, *RESULTS.rglob("*.csv")]:
        assert not re.search(r"/(home|root|work|tmp|Users)/", path.read_text()), path


def test_every_task_with_pages_has_those_of_every_run_and_its_tables():
    of_tasks = [page for page in PAGES if page.parent.name not in OVER_TASKS]
    folders = {page.parent for page in of_tasks if page.name != TICKETS}
    assert folders
    for folder in folders:
        there = {page.stem for page in PAGES if page.parent == folder}
        assert set(CORE) <= there <= {*CORE, *EXTRAS.values()}
        assert list(pd.read_csv(folder / "results.csv").columns) == list(COLUMNS)
        assert (folder / "subnetworks.json").is_file()
        assert (folder / "patterns.csv").is_file()
        shown = (folder / "02_structured_pruning.ipynb").read_text()
        orders = pd.read_csv(folder / "importance.csv")["heads, rank correlation"]
        assert all(f"<td>{rank:.3f}</td>" in shown for rank in orders)


def test_every_item_of_the_paper_has_a_page():
    for item in inventory().itertuples():
        for page in item.pages:
            chapter = ROOT / "book" / f"{page}.md"
            assert chapter.is_file() or find_pages(RESULTS, page), f"{item.name}: {page}"
    assert find_pages(RESULTS, "12_audit")


def test_the_contents_list_exactly_the_pages():
    book = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    (runs,) = [part for part in book["parts"] if part["caption"] == "The runs"]
    listed = [e["file"] for each in runs["chapters"] for e in (each, *each.get("sections", []))]
    found = [page.relative_to(ROOT / "book").with_suffix("").as_posix() for page in PAGES]
    assert sorted(listed) == sorted(found)


def test_results_hold_every_subnetwork_of_every_seed_once():
    results = load_results(RESULTS)
    reported = results[results["reported"]]
    by = ["encoder", "task", "preset", "seed", "method", "subnetwork", "phase"]
    assert not reported.duplicated(by).any()
    main = reported["method"].isin(METHODS) & reported["phase"].isin(PHASES)
    main &= reported["subnetwork"].isin(KINDS)
    for _, run in reported[main].groupby(["encoder", "task"]):
        assert len(run) == run["seed"].nunique() * 2 * 3 * 2
    assert reported["density"].between(0, 1).all()


def test_random_and_bad_subnetworks_have_the_size_of_the_good_one():
    # Exactly so for heads and MLPs counted apart, hence for their parameters too.
    results = load_results(RESULTS)
    paper = results[results["reported"] & (results["preset"] == "paper")]
    paper = paper[(paper["method"] != "none") & (paper["subnetwork"] != "inverted")]
    sizes = paper.groupby(["encoder", "task", "seed", "method"])["density"]
    assert (sizes.max() - sizes.min() < 1e-6).all()


def test_every_path_of_the_library_that_a_text_names_exists():
    texts = [*ROOT.glob("*.md"), *ROOT.glob("book/*.md"), *ROOT.glob("book/chapters/*.md")]
    named = {
        (text.name, path.rstrip("./"))
        for text in [*texts, *ROOT.glob("lotterylib/**/*.md")]
        for path in re.findall(r"(?<![\w.])(?:\.\./\.\./)?(lotterylib/[\w./]*)", text.read_text())
    }
    assert len(named) > 20
    assert not [(text, path) for text, path in sorted(named) if not (ROOT / path).exists()]


def test_templates_and_pages_come_from_the_same_code():
    # A page whose code differs from its template shows results that no one can get again.
    for page in PAGES:
        template = json.loads((ROOT / "notebooks" / page.name).read_text())
        ran = json.loads(page.read_text())

        def code(notebook):
            cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
            kept = [c for c in cells if "injected-parameters" not in c["metadata"].get("tags", [])]
            return ["".join(cell["source"]) for cell in kept]

        assert code(ran) == code(template), page


def test_the_measurements_of_speed_are_whole():
    found = json.loads((ROOT / "book" / "benchmarks.json").read_text())
    assert not found["quick"]
    groups = ("fine-tuning", "importance", "search", "magnitude", "retraining", "norms", "removal")
    assert {row["group"] for row in found["rows"]} == set(groups)
    orders = pd.read_csv(ROOT / "book" / "batch_orders.csv")
    assert (orders.groupby(["task", "order"])["seed"].nunique() == 5).all()
    assert orders["task"].nunique() == 2
    halves = pd.read_csv(ROOT / "book" / "precision.csv")
    assert (halves.groupby("task")["seed"].nunique() == 5).all()
    profile = json.loads((ROOT / "book" / "profile.json").read_text())
    for stage in profile["stages"]:
        assert sum(stage["shares"].values()) == pytest.approx(1)
