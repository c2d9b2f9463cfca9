"""Pictures that readers act on: by mouse and by keyboard they show what is committed."""

import itertools
import json
import re
from pathlib import Path

import pytest

from lotterylib.report import paper
from lotterylib.report.holds import METHOD_NAMES
from lotterylib.report.published import load_subnetworks
from lotterylib.report.results import load_results
from lotterylib.runs.methods import KINDS, METHODS, PHASES
from lotterylib.tasks import in_order, title_of
from tests.shared import watched

pytestmark = pytest.mark.long

RESULTS = Path(__file__).parents[2] / "book" / "results"


@pytest.fixture
def opened(chromium, address):
    """Opens a chapter and gives its picture; in the end no error may have come up."""
    problems, pages = [], []

    def open_chapter(chapter, name, **settings):
        page = watched(chromium, problems, viewport={"width": 390, "height": 900}, **settings)
        pages.append(page)
        page.goto(f"{address}/chapters/{chapter}.html")
        return page, page.locator(f"[data-picture={name}]")

    yield open_chapter
    for page in pages:
        page.context.close()
    assert not problems


def test_the_comparison_shows_the_committed_scores_under_every_switch(opened):
    _, picture = opened("evidence", "comparison")
    settings = ["task", "method", "subnetwork", "phase"]
    results = load_results(RESULTS)
    results = results[results["reported"] & (results["encoder"] == "minilm")]
    ours = results.set_index(settings)["value"].sort_index(kind="stable")
    known = paper.scores().set_index(settings)["mean"]
    drawn = set()
    for task, method in itertools.product(in_order(results["task"]), METHODS):
        picture.get_by_role("combobox", name="Task").select_option(label=title_of(task))
        picture.get_by_role("radio", name=METHOD_NAMES[method]).check()
        for phase in PHASES:
            picture.get_by_role("radio", name=phase).check()
            models = [("none", "full", "fine-tuned"), *((method, kind, phase) for kind in KINDS)]
            for place, model in enumerate(models):
                values = ours.loc[[(task, *model)]]
                row = picture.locator("tbody tr").nth(place).locator("th, td")
                _, mean, _, runs, _, _, theirs = row.all_text_contents()
                assert abs(float(mean) - values.mean()) < 0.00051  # ties round either way
                assert runs == ", ".join(f"{value:.3f}" for value in values)
                printed = known.get((task, *model))
                assert printed is None or theirs.startswith(f"{printed:.3f} ±")
                assert printed is not None or not re.search(r"\d", theirs)
                assert picture.locator("g.row").nth(place).locator(".run").count() == len(values)
            drawn.add(picture.locator(".drawing").inner_html())
    assert len(drawn) == results["task"].nunique() * len(METHODS) * len(PHASES)


def test_points_stand_where_their_scores_are_on_the_scale(opened):
    _, picture = opened("evidence", "comparison")
    ticks = [
        (float(each.text_content()), float(each.get_attribute("x")))
        for each in picture.locator("text.tick").all()
    ]
    (low, left), (high, right) = ticks[0], ticks[-1]
    for row, cells in zip(
        picture.locator("g.row").all(), picture.locator("tbody tr").all(), strict=True
    ):
        scores = [float(text) for text in cells.locator("td").nth(2).inner_text().split(", ")]
        for point, score in zip(row.locator(".run").all(), scores, strict=True):
            at = left + (right - left) * (score - low) / (high - low)
            assert float(point.get_attribute("cx")) == pytest.approx(at, abs=0.5)


def test_the_comparison_is_switched_by_keyboard(opened):
    page, picture = opened("evidence", "comparison")
    before = picture.locator("tbody").inner_text(), picture.locator(".drawing").inner_html()
    picture.get_by_role("radio", name="pruned").focus()
    page.keyboard.press("ArrowRight")
    assert picture.get_by_role("radio", name="retrained").is_checked()
    after = picture.locator("tbody").inner_text(), picture.locator(".drawing").inner_html()
    assert before[0] != after[0]
    assert before[1] != after[1]


def _bars(picture):
    """What is shown of each token: its name, raw and norm-weighted."""
    rows = [
        row.locator("td, th").all_text_contents() for row in picture.locator(".bars tbody tr").all()
    ]
    return [(word, float(raw), float(weighted)) for raw, word, weighted in rows]


def _expected(sentence, layer, head, token):
    """The same from the library."""
    import torch

    from lotterylib.attention import attention_maps
    from lotterylib.data.loading import load_model, load_tokenizer
    from lotterylib.data.pretrained import find_encoder
    from lotterylib.tasks import TASKS

    encoder = find_encoder("minilm")
    tokenizer = load_tokenizer(encoder)
    inputs = tokenizer(sentence, return_tensors="pt")
    model = load_model(encoder, TASKS["acceptability"], seed=0)
    rows = [
        attention_maps(model, inputs, norm_weighted=kind)[0, layer, head, token]
        for kind in (False, True)
    ]
    words = tokenizer.convert_ids_to_tokens(inputs["input_ids"][0])
    return list(zip(words, *((row / torch.sum(row)).tolist() for row in rows), strict=True))


def _agree(shown, wanted):
    assert [word for word, *_ in shown] == [word for word, *_ in wanted]
    for (_, *values), (_, *others) in zip(shown, wanted, strict=True):
        assert values == pytest.approx(others, abs=0.0051)


def test_words_show_the_maps_of_the_encoder_by_mouse_and_keyboard(opened):
    page, picture = opened("patterns", "words")
    texts = picture.get_by_role("combobox", name="Sentence").locator("option").all_text_contents()
    assert len(texts) == 3
    picture.get_by_role("combobox", name="Sentence").select_option(index=2)
    picture.get_by_role("radio", name="Layer 2, head 5:").click()
    picture.get_by_role("radio", name="she", exact=True).click()
    _agree(_bars(picture), _expected(texts[2], 1, 4, 1))
    page.keyboard.press("ArrowRight")  # the next token
    focused = picture.locator(":focus")
    assert focused.inner_text() == "thanked"
    _agree(_bars(picture), _expected(texts[2], 1, 4, 2))
    picture.locator(".heads [aria-checked=true]").focus()
    page.keyboard.press("ArrowDown")  # the same head of the next layer
    assert "Layer 3, head 5:" in picture.locator(":focus").get_attribute("aria-label")
    _agree(_bars(picture), _expected(texts[2], 2, 4, 2))
    picture.get_by_role("radio", name="waited").hover()  # looks ahead, and comes back
    _agree(_bars(picture), _expected(texts[2], 2, 4, 7))
    page.mouse.move(0, 0)
    _agree(_bars(picture), _expected(texts[2], 2, 4, 2))


def test_words_mark_the_heads_that_committed_subnetworks_keep(opened):
    _, picture = opened("patterns", "words")
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
                == sum(each.heads.astype(int) for each in subnetworks.values()).ravel().tolist()
            )


@pytest.mark.parametrize(("chapter", "name"), [("evidence", "comparison"), ("patterns", "words")])
def test_without_script_a_table_stands_in_the_place_of_the_picture(opened, chapter, name):
    _, picture = opened(chapter, name, java_script_enabled=False)
    text = picture.locator("script").text_content()
    assert len(text.encode()) < 150 * 1024
    assert picture.locator("table caption").is_visible()
    numbers = picture.locator("tbody td")
    assert numbers.count() > 20
    assert picture.locator("select, button, input").count() == 0
    json.loads(text)
