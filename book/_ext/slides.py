"""Figures for slides: the book's diagrams and main figures as SVG and PNG, each with its caption.

As an extension of Sphinx it writes them into `figures/` of the built book. The PNGs of the drawn
diagrams lie beside them in `_static`; `python book/_ext/slides.py` makes them anew, with Chromium.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image, PngImagePlugin

BOOK = Path(__file__).parents[1]
STATIC, PAGES = BOOK / "_static", BOOK / "results"
SOURCE = (
    "From “When BERT Plays the Lottery: an executable reproduction”, after Prasanna, Rogers and "
    "Rumshisky (2020). CC BY 4.0, https://creativecommons.org/licenses/by/4.0/"
)

DIAGRAMS = {
    "gated_layer": "A gated layer: a closed gate takes out what a head or an MLP adds. "
    "Layer normalisation is not drawn.",
    "search_phases": "The search on six parts: heads and MLPs together, heads alone, MLPs alone.",
    "overlap_trap": "The overlap trap: where the good subnetwork keeps more than half, the bad one "
    "must borrow from it.",
}
"""The drawn diagrams, with their captions."""

PLOTS = {
    "recovery": "From the mean over tasks as pruned (circle) to the mean retrained (arrow), as the "
    "share of the way from the majority class to the full model: good, random and bad subnetworks, in "
    "the paper and here. Dots are the single tasks, retrained; the line between is our linear layer "
    "on the frozen encoder.",
    "heads_and_mlps": "Good, random and bad subnetworks of heads and MLPs, MiniLM; points are "
    "seeds (the paper's Figure 2a).",
    "single_weights": "The same of single weights (the paper's Figure 2b).",
    "task_overlap": "Heads that the good subnetworks of two tasks share, and how far that is above "
    "chance (the paper's Figure 5).",
    "attention_patterns": "Maps of attention of the five patterns, from MiniLM.",
    "printed_and_released": "The bar that the paper's Figure 2a prints for random subnetworks, "
    "retrained, beside the released score.",
}
"""The main figures, with their captions; `plots` draws them."""


def plots() -> Iterator[tuple[str, Callable]]:
    """The names of `PLOTS`, each with a function that draws it."""
    import numpy as np

    from lotterylib.data.attention_maps import load_labelled
    from lotterylib.patterns import PATTERNS
    from lotterylib.report import figures, holds, overview
    from lotterylib.report.published import load_subnetworks
    from lotterylib.report.results import load_results

    results = load_results(PAGES)
    ours = results[results["reported"] & (results["encoder"] == "minilm")]
    glue = ours[ours["task"].isin(holds.glue_tasks(ours))]
    labelled = load_labelled()
    raw = (labelled.table["kind"] == "raw").to_numpy()

    def of(code: int) -> list:
        return [labelled.maps[i] for i in np.flatnonzero(raw & (labelled.codes == code))[:2]]

    yield "recovery", lambda: figures.recovery(figures.shares_of_way(glue), "MiniLM")
    yield "heads_and_mlps", lambda: figures.overview_bars(glue, "minilm", "structured")
    yield "single_weights", lambda: figures.overview_bars(glue, "minilm", "magnitude")
    found = load_subnetworks(PAGES, "minilm")[1]
    yield "task_overlap", lambda: figures.overlap_heatmap(overview.overlap_of(found, "heads"))
    maps = {name: of(code) for code, name in enumerate(PATTERNS)}
    yield "attention_patterns", lambda: figures.map_gallery(maps)
    yield "printed_and_released", figures.printed_beside_true


def write(folder: Path) -> None:
    """Write every figure as SVG and PNG, and `captions.txt`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in DIAGRAMS:
        for kind in ("svg", "png"):
            shutil.copy(STATIC / f"{name}.{kind}", folder)
    for name, draw in plots():
        figure = draw()
        told = {"Title": PLOTS[name], "Source": SOURCE}
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None, **told})
        figure.savefig(folder / f"{name}.png", metadata=told, dpi=200)
    captions = [f"{name}: {caption}" for name, caption in (DIAGRAMS | PLOTS).items()]
    (folder / "captions.txt").write_text("\n\n".join([*captions, SOURCE]) + "\n", encoding="utf-8")


def digest(svg: Path) -> str:
    """What tells whether a PNG was made from this diagram."""
    return hashlib.sha256(svg.read_bytes()).hexdigest()


def draw_diagrams() -> None:
    """Write the PNGs of the diagrams beside them."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        sandbox = [] if os.geteuid() else ["--no-sandbox"]  # root has no sandbox
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=chromium, args=sandbox)
        page = browser.new_page(device_scale_factor=3)
        for name, caption in DIAGRAMS.items():
            svg, png = STATIC / f"{name}.svg", STATIC / f"{name}.png"
            page.set_content(f"<style>body {{ margin: 0 }}</style>{svg.read_text()}")
            page.locator("svg").evaluate("svg => { svg.style.width = svg.viewBox.baseVal.width + 'px' }")
            page.locator("svg").screenshot(path=png, omit_background=True)
            told = PngImagePlugin.PngInfo()
            for key, text in {"Title": caption, "Source": SOURCE, "Drawn from": digest(svg)}.items():
                told.add_itxt(key, text)
            Image.open(png).quantize(64).save(png, pnginfo=told, optimize=True)
        browser.close()


def setup(app) -> dict:
    """Register with Sphinx."""

    def finished(app, error):
        if error is None:
            write(Path(app.outdir) / "figures")

    app.connect("build-finished", finished)
    return {"parallel_read_safe": True}


if __name__ == "__main__":
    draw_diagrams()
