"""The built site, as a reader's browser has it: links, hosts, errors, widths, accessibility."""

import re
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup

from tests.shared import SETTLED, watched

pytestmark = pytest.mark.long

WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
CUT_TABLES = """() => [...document.querySelectorAll('.bd-article table:not(.wide)')].filter(table => {
  let box = table.parentElement;
  while (box && !box.classList.contains('bd-article')) {
    const frame = box.getBoundingClientRect(), inside = table.getBoundingClientRect();
    if (getComputedStyle(box).overflowX !== 'visible' && inside.right > frame.right + 1)
      return true;
    box = box.parentElement;
  }
  return false;
}).map(table => table.innerText.slice(0, 80))"""


def test_every_link_and_source_resolves_on_disk(site, pages):
    anchors, broken, checked = {}, [], 0

    def anchors_of(page):
        if page not in anchors:
            soup = BeautifulSoup(page.read_text(), "html.parser")
            anchors[page] = {tag.get("id") or tag.get("name") for tag in soup.find_all(True)}
        return anchors[page]

    for page in pages:
        for tag in BeautifulSoup(page.read_text(), "html.parser").find_all(True):
            for attribute in ("href", "src", "poster", "data"):
                url = tag.get(attribute)
                if url is None or url.startswith("data:"):
                    continue
                checked += 1
                where, parts = f"{page.relative_to(site)}: {url}", urlsplit(url)
                if parts.scheme or parts.netloc:
                    if tag.name != "a":  # what the page itself loads is its own
                        broken.append(where)
                    continue
                target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
                if not target.is_file() or (
                    parts.fragment
                    and target.suffix == ".html"
                    and unquote(parts.fragment) not in anchors_of(target)
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


def test_pages_opened_from_disk_ask_no_other_host_and_log_no_error(site, pages, chromium):
    problems, formulae = [], 0
    page = watched(chromium, problems)
    for path in pages:
        before = len(problems)
        page.goto(path.as_uri())
        if page.locator(".math").count():
            page.wait_for_selector("mjx-container svg", state="attached")
            formulae += page.locator("mjx-container").count()
        problems[before:] = [f"{path.relative_to(site)}: {text}" for text in problems[before:]]
    assert not problems
    assert formulae > 20


@pytest.mark.parametrize("width", [1280, 390])
def test_no_page_scrolls_sideways_and_no_table_is_cut(site, pages, chromium, address, width):
    problems, wide = [], []
    page = watched(chromium, problems, viewport={"width": width, "height": 900})
    for path in pages:
        name = path.relative_to(site).as_posix()
        page.goto(f"{address}/{name}")
        page.evaluate(SETTLED, width)
        if page.evaluate("document.documentElement.scrollWidth") > width:
            wide.append(name)
        wide += [f"{name}: {table}" for table in page.evaluate(CUT_TABLES)]
    assert not wide
    assert not problems


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation_of_wcag_2_2_aa(site, pages, chromium, address, scheme):
    from axe_playwright_python.sync_playwright import Axe

    axe, problems, found = Axe(), [], []
    # Left to preload style sheets, axe asks for those that others import at a wrong address.
    options = {"runOnly": WCAG, "resultTypes": ["violations"], "preload": False}
    page = watched(chromium, problems, color_scheme=scheme)
    kinds = {path.name: path for path in pages}.values()  # of pages of one template, one
    for path in pages if scheme == "light" else kinds:
        name = path.relative_to(site).as_posix()
        page.goto(f"{address}/{name}")
        for width in (1280, 390) if path in kinds else (1280,):
            page.set_viewport_size({"width": width, "height": 900})
            page.evaluate(SETTLED, width)
            assert page.evaluate("document.documentElement.dataset.theme") == scheme
            for violation in axe.run(page, options=options).response["violations"]:
                nodes = [node["html"][:120] for node in violation["nodes"]]
                found.append(f"{name} at {width}: {violation['id']}: {nodes[:3]} of {len(nodes)}")
    assert not found, "\n".join(found)
    assert not problems


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


def test_figures_on_a_phone_scroll_in_their_own_box(pages, chromium):
    page = watched(chromium, [], viewport={"width": 390, "height": 900})
    squeezed, seen = [], 0
    for path in {path.name: path for path in pages}.values():  # of pages of one template, one
        page.goto(path.as_uri())
        for width, natural in page.eval_on_selector_all(
            ".bd-article .cell_output img", "all => all.map(i => [i.clientWidth, i.naturalWidth])"
        ):
            seen += 1
            squeezed += [(path.name, width, natural)] * (width < min(natural, 600))
    assert seen
    assert not squeezed


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_pictures_stay_accessible_while_a_reader_acts(site, chromium, address, scheme, width):
    from axe_playwright_python.sync_playwright import Axe

    problems, found = [], []
    options = {"runOnly": WCAG, "resultTypes": ["violations"], "preload": False}
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
        for violation in axe_violations(Axe(), page, options):
            found.append(f"{chapter}: {violation}")
    assert not found
    assert not problems


def axe_violations(axe, page, options):
    """What axe finds, in words."""
    for violation in axe.run(page, options=options).response["violations"]:
        yield f"{violation['id']}: {[node['html'][:120] for node in violation['nodes']][:3]}"
