"""The inventory: every table and figure of the paper, and the page that makes it again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lotterylib.report.tables import markdown_table
from lotterylib.tasks import title_of


@dataclass(frozen=True)
class Item:
    """A table, figure or appendix of the paper.

    Attributes:
        name: as the paper calls it.
        shows: what it shows, in a few words.
        pages: the templates (without `.ipynb`) or chapters that make it again.
        masks: whether it is also computed from the masks that the authors released.
    """

    name: str
    shows: str
    pages: tuple[str, ...]
    masks: bool = False


ITEMS = (
    Item("Table 1", "the tasks, their sizes and metrics", ("chapters/tasks",)),
    Item("Figure 1a", "survival of weights in each head and MLP", ("03_magnitude_pruning",)),
    Item("Figure 1b", "survival of heads and MLPs", ("02_structured_pruning",), True),
    Item(
        "Figure 2",
        "good, random and bad subnetworks, pruned and retrained",
        ("04_subnetworks", "08_overview", "chapters/evidence"),
    ),
    Item("Table 2", "bad subnetworks beside baselines", ("09_how_bad_is_bad",)),
    Item("Figure 3", "histogram of importance", ("02_structured_pruning",)),
    Item("Section 5.1", "Fleiss' kappa and Cochran's Q", ("05_stability", "08_overview"), True),
    Item(
        "Figure 4",
        "types of attention patterns, and their shares in super-survivors and all heads",
        ("07_attention_patterns", "08_overview"),
    ),
    Item(
        "Section 5.2",
        "survival and heterogeneous attention",
        ("07_attention_patterns", "08_overview", "chapters/explanations"),
    ),
    Item("Figure 5", "heads that tasks have in common", ("08_overview",), True),
    Item("Appendix B", "heads and MLPs pruned apart", ("10_variants",), True),
    Item("Appendix C", "the numbers of figure 2", ("04_subnetworks", "chapters/evidence")),
    Item("Appendix D", "bad subnetworks trained for twice the epochs", ("09_how_bad_is_bad",)),
    Item("Appendix E", "super-survivors", ("06_super_survivors",), True),
    Item("Appendix F", "patterns before and after fine-tuning", ("07_attention_patterns",)),
    Item("Appendix G", "overlap of MLPs and of super-survivors", ("08_overview",), True),
)


def find_pages(pages: Path, template: str) -> list[Path]:
    """The published pages of a template, relative to the folder of pages."""
    return sorted(path.relative_to(pages) for path in pages.glob(f"*/*/{template}.ipynb"))


def inventory_table(pages: str) -> str:
    """The inventory as a Markdown table with links.

    Args:
        pages: the folder of published pages, relative to the chapter that shows the table.
    """
    folder = Path(pages)
    rows = []
    for item in ITEMS:
        links = []
        for page in item.pages:
            if page.startswith("chapters/"):
                name = page.removeprefix("chapters/")
                links.append(f"[{name}]({name}.md)")
                continue
            links += [f"[{_title(path)}]({pages}/{path})" for path in find_pages(folder, page)]
        if item.masks:
            audits = find_pages(folder, "12_audit")
            links += [f"[from released masks]({pages}/{path})" for path in audits]
        rows.append((f"**{item.name}**", item.shows, " · ".join(links)))
    return markdown_table(("In the paper", "What it shows", "Where it is made again"), rows)


def _title(path: Path) -> str:
    """Such as "CoLA" for a task's page, "all tasks" for the overview."""
    name = path.parent.name
    return "all tasks" if name in ("overview", "audit") else title_of(name)
