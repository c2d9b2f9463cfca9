"""The built site, as a reader's browser has it: links, hosts, errors, widths, accessibility."""

import os
import re
from collections import Counter, defaultdict
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.shared import SETTLED, watched

pytestmark = pytest.mark.long

POINTING = ("href", "src", "poster", "data")
TEXT = {"include": [["body"]], "exclude": [[".highlight"]]}
"""Contrast is dear to measure: of code, each kind of token once, on one page."""
THEME = """scheme => document.documentElement.dataset.theme === scheme
  && document.getAnimations().length === 0"""  # no colour is on its way to another
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
CONTRAST = {"runOnly": ["color-contrast"]}
SHAPES = {"runOnly": WCAG, "rules": {"color-contrast": {"enabled": False}}}
CUT_TABLES = """() => [...document.querySelectorAll('.bd-article table:not(.wide)')]
.filter(table => {
  let box = table.parentElement;
  while (box && !box.classList.contains('bd-article')) {
    const frame = box.getBoundingClientRect(), inside = table.getBoundingClientRect();
    if (getComputedStyle(box).overflowX !== 'visible' && inside.right > frame.right + 1)
      return true;
    box = box.parentElement;
  }
  return false;
}).map(table => table.innerText.slice(0, 80))"""


class Tags(HTMLParser):
    """What tags of a page point to, and what can be pointed to in it."""

    def __init__(self, page):
        super().__init__()
        self.anchors, self.urls = set(), []
        self.feed(page.read_text())

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.anchors.add(given.get("id") or given.get("name"))
        self.urls += [(tag, given[each]) for each in POINTING if given.get(each) is not None]


def test_every_link_and_source_resolves_on_disk(site, pages):
    broken, checked, tags = [], 0, {page: Tags(page) for page in pages}
    for page in pages:
        for tag, url in tags[page].urls:
            if url.startswith("data:"):
                continue
            checked += 1
            where, parts = f"{page.relative_to(site)}: {url}", urlsplit(url)
            if parts.scheme or parts.netloc:
                if tag != "a":  # what the page itself loads is its own
                    broken.append(where)
                continue
            target = Path(os.path.normpath(page.parent / unquote(parts.path)))
            target = target if parts.path else page
            if not target.is_file() or (
                parts.fragment
                and target in tags
                and unquote(parts.fragment) not in tags[target].anchors
            ):
                broken.append(where)
    first = re.search(r"url=([^\"]+)", (site / "index.html").read_text()).group(1)
    assert (site / first).is_file()
    assert checked > 5000
    assert not broken


def test_every_picture_says_what_is_on_it(pages):
    for page in pages:
        images = re.findall(r"<img[^>]+_images[^>]*>", page.read_text())
        assert all(re.search(r'alt="[^"/]{40,}"', image) for image in images), page


@pytest.fixture(scope="module")
def walk(site, pages, chromium):
    """What one visit to every page, opened from disk, finds: problem -> where; what it saw."""
    found, seen, problems, tokens = defaultdict(list), Counter(), [], set()
    page = watched(chromium, problems, color_scheme="light")
    # Of the pages of one template one, and of all sources.
    kinds = {"" if "_modules" in path.parts else path.name: path for path in pages}.values()
    for path in pages:
        name = path.relative_to(site).as_posix()
        page.goto(path.as_uri())
        if page.locator(".math").count():
            page.wait_for_selector("mjx-container svg", state="attached")
            seen["formulae"] += page.locator("mjx-container").count()
        tokens |= set(
            page.eval_on_selector_all(".highlight span", "all => all.map(s => s.className)")
        )
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 900})
            page.evaluate(SETTLED, width)
            if page.evaluate("document.documentElement.scrollWidth") > width:
                found["scrolls sideways"].append(f"{name} at {width}")
            found["cut"] += [f"{name}: {table}" for table in page.evaluate(CUT_TABLES)]
            if width == 1280 or path in kinds:
                found["axe"] += [f"{name} at {width}: {text}" for text in violations(page, SHAPES)]
            if width == 1280 and path in kinds:
                found["contrast"] += [f"{name}, {text}" for text in pale(page, TEXT)]
        if path in kinds:
            drawn = page.eval_on_selector_all(
                ".bd-article .cell_output img",
                "all => all.map(i => [i.clientWidth, i.naturalWidth])",
            )
            seen["figures"] += len(drawn)
            found["squeezed"] += [name for width, natural in drawn if width < min(natural, 600)]
        found["problems"] += [f"{name}: {text}" for text in problems]
        problems.clear()
    page.goto((site / "chapters" / "gates.html").as_uri())
    page.eval_on_selector(
        ".highlight pre",
        "(pre, all) => pre.innerHTML = all.map(k => `<span class='${k}'>${k}</span>`).join(' ')",
        sorted(tokens),
    )
    found["contrast"] += pale(page, ".highlight")
    seen["tokens"] = len(tokens)
    return found, seen


def violations(page, rules, where=None):
    """What axe finds, in words."""
    # Left to preload style sheets, axe asks for those that others import at a wrong address.
    options = {"resultTypes": ["violations"], "preload": False} | rules
    for each in Axe().run(page, context=where, options=options).response["violations"]:
        yield f"{each['id']}: {[node['html'][:120] for node in each['nodes']][:3]}"


def pale(page, where):
    """The text that does not stand out from its ground, on dark and on light."""
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(THEME, arg=scheme)
        for text in violations(page, CONTRAST, where):
            yield f"{scheme}: {text}"


@pytest.mark.parametrize(
    "what", ["problems", "scrolls sideways", "cut", "axe", "contrast", "squeezed"]
)
def test_no_page_has_what_it_must_not(walk, what):
    """Hosts that are asked and errors, widths, WCAG 2.2 AA, text that does not stand out."""
    found, _ = walk
    assert not found[what], "\n".join(found[what])


def test_formulae_figures_and_kinds_of_tokens_were_seen(walk):
    _, seen = walk
    assert min(seen["formulae"], seen["tokens"]) > 20
    assert seen["figures"]


PICTURES = {"lottery": "hunt", "search": "film", "patterns": "words", "evidence": "comparison"}


@pytest.mark.parametrize(("chapter", "name"), PICTURES.items())
def test_a_picture_to_act_on_is_in_its_chapter_and_without_script_a_table(
    site, chromium, chapter, name
):
    address = (site / "chapters" / f"{chapter}.html").as_uri()
    picture = watched(chromium, []).locator(f"[data-picture={name}]")
    picture.page.goto(address)
    assert picture.locator("button:visible, input:visible, select:visible").count() > 2
    plain = watched(chromium, [], java_script_enabled=False).locator(f"[data-picture={name}]")
    plain.page.goto(address)
    assert plain.locator("table caption").is_visible()
    assert len(plain.locator("script").text_content().encode()) < 150 * 1024
    assert plain.locator("tbody td").count() > 20
    assert plain.locator("button, input, select").count() == 0


@pytest.mark.parametrize("paper", ["A4", "Letter"])
def test_the_hand_out_prints_on_one_sheet(site, chromium, paper):
    page = watched(chromium, [])
    page.goto((site / "chapters" / "handout.html").as_uri())
    assert re.findall(rb"/Count (\d+)", page.pdf(format=paper)) == [b"1"]


def test_a_table_that_does_not_fit_becomes_a_card_a_row(site, chromium, address):
    page = watched(chromium, [], viewport={"width": 390, "height": 900})
    page.goto(f"{address}/chapters/differ.html")
    page.evaluate(SETTLED, 390)
    table = page.locator("table", has_text="One dev example").first
    heads = [text.strip() for text in table.locator("thead th").all_text_contents()]
    assert "cards" in table.get_attribute("class")
    first = table.locator("tbody tr").first.locator("td")
    assert [cell.get_attribute("data-name") for cell in first.all()] == heads
    page.set_viewport_size({"width": 1280, "height": 900})
    page.evaluate(SETTLED, 1280)
    assert "cards" not in table.get_attribute("class")


def test_a_table_of_many_columns_scrolls_and_keeps_its_first_in_sight(site, chromium, address):
    page = watched(chromium, [], viewport={"width": 390, "height": 900})
    page.goto(f"{address}/results/minilm/overview/08_overview.html")
    page.evaluate(SETTLED, 390)
    table = page.locator("table.wide").first
    box = page.locator(".bd-article [tabindex='0']", has=table).last
    assert table.locator("tbody tr").first.locator("th, td").count() > 9
    box.focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    page.wait_for_function("box => box.scrollLeft > 100", arg=box.element_handle())
    frame, first = box.bounding_box(), table.locator("tbody th").first.bounding_box()
    assert abs(first["x"] - frame["x"]) < 2


def test_a_figure_that_goes_on_beyond_the_edge_says_so(site, chromium, address):
    page = watched(chromium, [], viewport={"width": 390, "height": 900})
    page.goto(f"{address}/intro.html")
    page.evaluate(SETTLED, 390)
    box = page.locator(".bd-article .goes-on")
    assert box.count() == 1
    hint = box.evaluate("box => getComputedStyle(box, '::after').content")
    assert "Swipe sideways" in hint
    page.set_viewport_size({"width": 1280, "height": 900})
    page.evaluate(SETTLED, 1280)
    assert box.count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_pictures_stay_accessible_while_a_reader_acts(site, chromium, address, scheme, width):
    problems, found = [], []
    page = watched(
        chromium, problems, color_scheme=scheme, viewport={"width": width, "height": 900}
    )
    acts = {"lottery": ["Show the search's choice", "The full model"], "search": ["Forward"] * 4}
    for chapter, names in acts.items():
        page.goto(f"{address}/chapters/{chapter}.html")
        picture = page.locator(".picture")
        for name in names:
            picture.get_by_role("button", name=name).click()
        page.evaluate(SETTLED, width)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        sizes = picture.locator("button:visible, .picture-grid td").evaluate_all(
            "all => all.map(one => one.getBoundingClientRect()).map(box => [box.width, box.height])"
        )
        assert min(map(min, sizes)) >= 24
        found += [f"{chapter}: {each}" for each in violations(page, {"runOnly": WCAG})]
    assert not found
    assert not problems
