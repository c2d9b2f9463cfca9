"""Every item of the paper is listed once, with links to the pages there are."""

from lotterylib.report.inventory import ITEMS, find_pages, inventory_table
from lotterylib.runs.methods import CORE, EXTRAS


def test_the_items_are_those_of_the_paper():
    names = [item.name for item in ITEMS]
    assert len(set(names)) == len(names)
    for wanted in (
        "Table 1",
        "Table 2",
        "Figure 1a",
        "Figure 1b",
        *(f"Figure {n}" for n in (2, 3, 4, 5)),
    ):
        assert wanted in names
    assert {f"Appendix {letter}" for letter in "BCDEFG"} <= set(names)
    known = {*CORE, *EXTRAS.values(), "08_overview"}
    for item in ITEMS:
        assert item.pages
        assert all(page in known or page.startswith("chapters/") for page in item.pages)


def test_links_lead_to_the_pages_there_are_and_to_no_others(tmp_path):
    for page in (
        "minilm/cola/02_structured_pruning",
        "minilm/overview/08_overview",
        "authors/audit/12_audit",
    ):
        path = tmp_path / f"{page}.ipynb"
        path.parent.mkdir(parents=True)
        path.touch()
    assert [str(p) for p in find_pages(tmp_path, "08_overview")] == [
        "minilm/overview/08_overview.ipynb"
    ]
    table = inventory_table(str(tmp_path))
    (row,) = [line for line in table.splitlines() if line.startswith("| **Figure 1b**")]
    assert f"[CoLA]({tmp_path}/minilm/cola/02_structured_pruning.ipynb)" in row
    assert f"[from released masks]({tmp_path}/authors/audit/12_audit.ipynb)" in row
    (row,) = [line for line in table.splitlines() if line.startswith("| **Table 2**")]
    assert "](" not in row
    assert "[tasks](tasks.md)" in table
    assert table.count("\n") == len(ITEMS) + 1
