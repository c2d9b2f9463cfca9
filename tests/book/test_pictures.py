"""The pictures that readers act on: by mouse and keyboard, from disk, their numbers the tables'."""

import itertools
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lotterylib.report import lottery as told
from lotterylib.report import paper
from lotterylib.report.holds import METHOD_NAMES
from lotterylib.report.pictures import film as films
from lotterylib.report.pictures.comparison import comparison
from lotterylib.report.pictures.hunt import hunt
from lotterylib.report.pictures.words import words
from lotterylib.report.published import load_searches, load_subnetworks
from lotterylib.report.results import load_results
from lotterylib.runs.methods import KINDS, METHODS, PHASES
from lotterylib.tasks import in_order, title_of
from tests.results import tickets_of
from tests.shared import watched

BOOK = Path(__file__).parents[2] / "book"
RESULTS = BOOK / "results"
CELLS = "body => [...body.rows].map(row => [...row.cells].map(cell => cell.textContent))"
POINTS = "all => all.map(row => row.querySelectorAll('.run').length)"


@pytest.fixture
def shown(chromium, tmp_path):
    """Opens a page that holds one picture, from disk; complaints of the browser are failures."""
    problems = []
    # Jupyter Book loads them in any order
    files = [path.as_uri() for path in sorted((BOOK / "_static").glob("*.*s"), reverse=True)]
    scripts = "".join(f'<script src="{f}"></script>' for f in files if f.endswith(".js"))
    styles = "".join(f'<link rel="stylesheet" href="{f}">' for f in files if f.endswith(".css"))

    def show(html, **settings):
        place = tmp_path / "page.html"
        place.write_text(
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>One</title>{styles}'
            f'{scripts}<main class="bd-article">{html}</main></html>'
        )
        page = watched(chromium, problems, **settings)
        page.goto(place.as_uri())
        return page

    yield show
    assert not problems


@pytest.fixture
def table():
    """The sixteen tickets of two layers; some scores are equal, some tickets not retrained."""
    pruned = {3: 0.7, 6: 0.7, 10: 0.83, 7: 0.815, 11: 0.82, 14: 0.85, 15: 0.9}
    constant, retrained = set(range(16)) - set(pruned), {3: 0.85, 5: 0.55, 6: 0.58, 10: 0.85}
    scores = [pruned.get(ticket, 0.5) for ticket in range(16)]
    return tickets_of(scores, retrained, constant, way=[15, 6])


def place(found, phase, part):
    """What the picture says of a ticket's standing."""
    ranks = f"ranks {found.higher + 1} to {found.higher + found.same + 1}"
    rank = ranks if found.same else f"rank {found.higher + 1}"
    return f"{phase} {found.score:.3f}, {rank} of {found.others + 1}{part}"


def test_a_ticket_is_told_with_its_scores_and_ranks_by_mouse_and_keyboard(shown, table):
    page = shown(hunt(table, "accuracy", 0.9))
    switches, score = page.locator(".picture-switches button"), page.locator(".picture-score")
    kept = [one.get_attribute("aria-pressed") == "true" for one in switches.all()]
    assert sum(kept) == 2
    visited = set()
    for step in range(1, 17):  # one switch at a time leads through all tickets
        unit = (step & -step).bit_length() - 1 if step < 16 else 3
        kept[unit] = not kept[unit]
        if step % 2:
            switches.nth(unit).click()
        else:
            switches.nth(unit).focus()
            page.keyboard.press("Space")
        ticket = sum(1 << bit for bit, one in enumerate(kept) if one)
        visited.add(ticket)
        row = table.loc[ticket]
        assert switches.nth(unit).get_attribute("aria-pressed") == str(kept[unit]).lower()
        assert score.inner_text().endswith(f"pruned {row['pruned']:.3f}")
        yours = page.locator(".picture-said p", has_text="Yours").inner_text()
        if found := told.standing(table, ticket, "pruned"):
            assert place(found, "pruned", "") in yours
        if found := told.standing(table, ticket, "retrained"):
            assert place(found, "retrained", " retrained so far") in yours
        assert ("not yet" in yours) == (row["units"] == 2 and pd.isna(row["retrained"]))
        assert ("same answer to every example" in yours) == row["constant"]
        same = table.loc[table["units"] == row["units"], "pruned"]
        drawn = page.locator("svg").first.get_attribute("aria-label")
        assert drawn.startswith(f"Scores of {len(same)} tickets")
        assert f"pruned, from {same.min():.3f} to {same.max():.3f}" in drawn
    assert visited == set(range(16))


def test_the_searchs_choice_is_shown_when_it_is_asked_for(shown, table):
    page = shown(hunt(table, "accuracy", 0.9))
    said = page.locator(".picture-said")
    assert "search's choice" not in said.inner_text()
    page.get_by_role("button", name="Show the search's choice").press("Enter")
    found = told.standing(table, 6, "pruned")
    assert f"The search's choice: {place(found, 'pruned', '')}" in said.inner_text()
    marked = page.locator(".picture-switches .searched").evaluate_all(
        "all => all.map(one => one.getAttribute('aria-label'))"
    )
    assert marked == ["Attention of layer 2", "MLP of layer 1"]  # ticket 6 is 0110
    page.get_by_role("button", name="The best one, pruned").click()
    assert page.locator(".picture-score").inner_text() == "2 units, pruned 0.830"
    page.locator(".picture-switches button").first.click()
    assert "The search has no ticket of this size, only of 4, 2 units." in said.inner_text()
    page.locator(".picture-switches button").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.ariaLabel") == "MLP of layer 2"


def test_when_all_are_retrained_nothing_is_called_a_sample(shown, table):
    table["retrained"] = table["retrained"].fillna(0.5).where(table["units"] == 2)
    page = shown(hunt(table, "accuracy", 0.9))
    assert "so far" not in page.locator(".picture").inner_text()


def film(shown, **settings):
    """The committed film, and the search that it shows first."""
    searches = load_searches(RESULTS / "minilm" / "mrpc")
    html = films.film(searches, "accuracy", 0.9)
    return shown(html, **settings), next(iter(searches.values()))


def test_the_film_shows_every_state_by_buttons_and_arrow_keys(shown):
    page, steps = film(shown)
    said, last = page.locator(".picture-said"), steps[0]
    page.get_by_role("button", name="Forward").focus()
    for number, step in enumerate(steps):
        assert f"State {number} of {len(steps) - 1}" in said.inner_text()
        assert f"accuracy {step.score:.3f}" in said.inner_text()
        assert ("undone" in said.inner_text()) == (not step.kept)
        left = int(step.subnetwork.heads.sum())
        assert f"{left} heads" in said.inner_text()
        assert page.locator("td.head[data-fate=open]").count() == left
        gone = int((last.subnetwork.heads & ~step.subnetwork.heads).sum())
        fate = "closes" if step.kept else "undone"
        assert page.locator(f"td.head[data-fate={fate}]").count() == gone
        assert page.locator("svg .now").inner_html() == f"{step.score:.3f}"
        decides = step if step.kept else last
        texts = page.locator("td.head").all_text_contents()
        worth, kept = decides.importance.heads.ravel(), step.subnetwork.heads.ravel()
        assert [text.startswith("open") for text in texts] == kept.tolist()
        for text, value in itertools.compress(zip(texts, worth, strict=True), kept):
            assert float(re.search(r"importance ([\d.e-]+),", text)[1]) == value
        last = decides
        if number % 2 == 0:
            page.keyboard.press("ArrowRight")
        elif step is not steps[-1]:
            page.get_by_role("button", name="Forward").click()
    assert page.get_by_role("button", name="Forward").is_disabled()
    page.locator("input[type=range]").focus()
    page.keyboard.press("Home")
    assert "State 0" in said.inner_text()


def test_the_importance_of_a_part_is_told_on_hover_focus_and_tap(shown):
    page, steps = film(shown)
    cells = page.locator(".picture-grid tr").nth(1).locator("td")
    about, importance = page.locator(".picture-about"), steps[0].importance
    cells.nth(3).hover()
    assert f"Head 4 of layer 1: open, importance {importance.heads[0, 3]:g}" in about.inner_text()
    cells.nth(4).click()
    page.keyboard.press("ArrowRight")
    assert f"Head 6 of layer 1: open, importance {importance.heads[0, 5]:g}" in about.inner_text()
    page.keyboard.press("ArrowDown")
    assert "Head 6 of layer 2" in about.inner_text()
    cells.last.click()
    assert f"MLP of layer 1: open, importance {importance.mlps[0]:g}" in about.inner_text()
    assert page.locator(".picture-grid td[tabindex='0']").count() == 1


def test_the_film_plays_until_it_is_paused_and_never_where_motion_is_unwelcome(shown):
    page, steps = film(shown, reduced_motion="no-preference")
    page.clock.install(time=0)
    page.clock.pause_at(3600)  # from here on it moves only as told, however busy the machine is
    said, play = page.locator(".picture-said"), page.get_by_role("button", name="Play")
    play.click()
    page.clock.run_for(3000)
    assert "State 2 of" in said.inner_text()
    assert said.get_attribute("aria-live") == "off"
    page.get_by_role("button", name="Pause").click()
    page.clock.run_for(3000)
    assert "State 2 of" in said.inner_text()
    play.click()
    page.clock.run_for(60_000)
    assert f"State {len(steps) - 1} of" in said.inner_text()
    assert play.is_visible()
    still, _ = film(shown, reduced_motion="reduce")
    assert not still.get_by_role("button", name="Play").count()


def test_the_table_stands_there_without_javascript_and_is_folded_below_with_it(shown):
    for on in (False, True):
        page, steps = film(shown, java_script_enabled=on)
        rows = page.locator(".acting table:not(.picture-grid) tbody tr")
        assert rows.count() == len(steps)
        for row, step in zip(rows.all(), steps, strict=True):
            assert f"{step.score:.3f}" in row.text_content()
        assert page.locator(".picture").count() == on


@pytest.fixture
def results():
    """The committed scores."""
    results = load_results(RESULTS)
    return results[results["reported"] & (results["encoder"] == "minilm")]


@pytest.fixture
def scores(shown, results):
    """The picture of the committed scores, with its page."""
    page = shown(comparison(results, RESULTS / "minilm"), viewport={"width": 390, "height": 900})
    return page, page.locator("[data-picture=comparison]")


def test_the_comparison_shows_the_committed_scores_under_every_switch(scores, results):
    _, picture = scores
    settings = ["task", "method", "subnetwork", "phase"]
    ours = results.set_index(settings)["value"].sort_index(kind="stable")
    known = paper.scores().set_index(settings)["mean"]
    drawn = set()
    for task, method in itertools.product(in_order(results["task"]), METHODS):
        picture.get_by_role("combobox", name="Task").select_option(label=title_of(task))
        picture.get_by_role("radio", name=METHOD_NAMES[method]).check()
        for phase in PHASES:
            picture.get_by_role("radio", name=phase).check()
            models = [("none", "full", "fine-tuned"), *((method, kind, phase) for kind in KINDS)]
            rows = picture.locator("tbody").evaluate(CELLS)
            points = picture.locator("g.row").evaluate_all(POINTS)
            for row, count, model in zip(rows, points, models, strict=True):
                values = ours.loc[[(task, *model)]]
                _, mean, _, runs, _, _, theirs = row
                assert abs(float(mean) - values.mean()) < 0.00051  # ties round either way
                assert runs == ", ".join(f"{value:.3f}" for value in values)
                printed = known.get((task, *model))
                assert printed is None or theirs.startswith(f"{printed:.3f} ±")
                assert printed is not None or not re.search(r"\d", theirs)
                assert count == len(values)
            drawn.add(picture.locator(".drawing").inner_html())
    assert len(drawn) == results["task"].nunique() * len(METHODS) * len(PHASES)


def test_points_stand_where_their_scores_are_on_the_scale(scores):
    _, picture = scores
    ticks = picture.locator("text.tick").all()
    low, high = (float(ticks[end].text_content()) for end in (0, -1))
    left, right = (float(ticks[end].get_attribute("x")) for end in (0, -1))
    rows, lines = picture.locator("g.row").all(), picture.locator("tbody tr").all()
    for row, cells in zip(rows, lines, strict=True):
        values = [float(text) for text in cells.locator("td").nth(2).inner_text().split(", ")]
        for point, score in zip(row.locator(".run").all(), values, strict=True):
            at = left + (right - left) * (score - low) / (high - low)
            assert float(point.get_attribute("cx")) == pytest.approx(at, abs=0.5)


def test_the_comparison_is_switched_by_keyboard(scores):
    page, picture = scores
    parts = picture.locator("tbody"), picture.locator(".drawing")
    before = [part.inner_html() for part in parts]
    picture.get_by_role("radio", name="pruned").focus()
    page.keyboard.press("ArrowRight")
    assert picture.get_by_role("radio", name="retrained").is_checked()
    assert not any(part.inner_html() == was for part, was in zip(parts, before, strict=True))


@pytest.fixture
def attention(shown):
    """The picture of words on maps drawn at random, with its page, its sentences and its maps."""
    draw = np.random.default_rng(0)
    sentences = [["[CLS]", "A", "cat", "[SEP]"], ["[CLS]", "she", "thanked", "him", ".", "[SEP]"]]
    kinds = [[draw.random((6, 12, len(s), len(s))) for s in sentences] for _ in range(2)]
    _, good = load_subnetworks(RESULTS, "minilm")
    page = shown(words(sentences, *kinds, good))
    return page, page.locator("[data-picture=words]"), sentences, kinds


def test_words_show_the_maps_by_mouse_and_keyboard(attention):
    page, picture, sentences, kinds = attention

    def agree(layer, head, token):
        rows = picture.locator(".bars tbody tr").all()
        cells = [row.locator("td, th").all_text_contents() for row in rows]
        assert [word for _, word, _ in cells] == sentences[1]
        for place, maps in zip((0, 2), kinds, strict=True):
            row = maps[1][layer, head, token]
            assert [float(each[place]) for each in cells] == pytest.approx(
                list(row / row.sum()), abs=0.0051
            )

    picture.get_by_role("combobox", name="Sentence").select_option(index=1)
    picture.get_by_role("radio", name="Layer 2, head 5:").click()
    picture.get_by_role("radio", name="she", exact=True).click()
    agree(1, 4, 1)
    page.keyboard.press("ArrowRight")  # the next token
    assert picture.locator(":focus").inner_text() == "thanked"
    agree(1, 4, 2)
    picture.locator(".heads [aria-checked=true]").focus()
    page.keyboard.press("ArrowDown")  # the same head of the next layer
    assert "Layer 3, head 5:" in picture.locator(":focus").get_attribute("aria-label")
    agree(2, 4, 2)
    picture.get_by_role("radio", name="him").hover()  # looks ahead, and comes back
    agree(2, 4, 3)
    page.mouse.move(0, 0)
    agree(2, 4, 2)


def test_words_mark_the_heads_that_committed_subnetworks_keep(attention):
    _, picture, *_ = attention
    _, good = load_subnetworks(RESULTS, "minilm")
    for task, found in good.items():
        picture.get_by_role("combobox", name="Task").select_option(label=title_of(task))
        subnetworks = found["structured"]
        for seed, subnetwork in subnetworks.items():
            picture.get_by_role("combobox", name="Seed").select_option(label=str(seed))
            buttons = picture.locator(".heads button")
            marked = buttons.evaluate_all("all => all.map(each => each.className === 'kept')")
            counts = [int(text) for text in buttons.all_text_contents()]
            assert marked == subnetwork.heads.ravel().tolist()
            assert (
                counts
                == sum(each.heads.astype(int).ravel() for each in subnetworks.values()).tolist()
            )
