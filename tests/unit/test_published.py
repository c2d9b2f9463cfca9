"""What a run publishes is read back equal, without weights, data or a run store."""

import dataclasses
import json

import numpy as np
import pytest

import lotterylib.runs.experiment
import lotterylib.runs.pattern_counts
from lotterylib.errors import LotteryError
from lotterylib.importance import Importance
from lotterylib.patterns import PATTERNS
from lotterylib.report.identity import claim, requests_of
from lotterylib.report.published import (
    check_overview,
    describe_source,
    load_patterns,
    load_searches,
    load_subnetworks,
    publish,
)
from lotterylib.report.results import load_results
from lotterylib.runs.methods import GRIDS
from lotterylib.runs.pattern_counts import CONDITIONS, count_patterns
from lotterylib.runs.searches import find_good, structured_row
from lotterylib.structured import StructuredStep
from lotterylib.subnetworks import StructuredSubnetwork, full_subnetwork
from tests.shared import on_record
from tests.small import small_experiment

PAGES = ("02_structured_pruning", "06_super_survivors", "07_attention_patterns")


def about_half(made, seed, name, report, number=0):
    """What a structured search might have found."""
    if name == "super":
        return find_good(made, seed, name, report)
    draw = np.random.default_rng([seed, len(name)])
    good = StructuredSubnetwork(draw.random((3, 4)) < 0.7, draw.random(3) < 0.7)
    steps = [
        StructuredStep(phase, kept, Importance(draw.random((3, 4)), draw.random(3)), score, True)
        for phase, kept, score in (
            ("full", full_subnetwork(made.shape), 0.8),
            ("heads", good, 0.75),
        )
    ]
    return [structured_row(step, made.shape) for step in steps], good


@pytest.fixture(scope="module")
def run(tmp_path_factory, small_runs):
    """A published run, its pages, and what was computed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lotterylib.runs.experiment, "find_good", about_half)
        patch.setattr(lotterylib.runs.pattern_counts, "classifier", lambda store: None)
        store, pages = (tmp_path_factory.mktemp(name) for name in ("runs", "pages"))
        made = small_experiment(store, task="similarity", seeds=[3, 1], max_length=24)
        claim(requests_of([(made, PAGES)], pages))
        publish(made, PAGES, pages / "tiny" / "similarity")
        yield made, pages


def test_published_subnetworks_are_read_back_equal(run):
    made, pages = run
    shape, found = load_subnetworks(pages, "tiny")
    assert shape == made.shape
    assert found == {
        "similarity": {
            method: {seed: made.subnetwork(seed, method, "good") for seed in (3, 1)}
            for method in ("structured", "super")
        }
    }
    assert found["similarity"]["structured"][3] != found["similarity"]["structured"][1]


def test_published_searches_are_read_back_with_three_digits_of_importance(run, tmp_path):
    made, pages = run
    found = load_searches(pages / "tiny" / "similarity")
    assert list(found) == [3, 1]
    for seed, steps in found.items():
        trace = made.trace(seed, "structured")
        assert steps[-1].subnetwork == made.subnetwork(seed, "structured", "good")
        for step, state in zip(steps, trace, strict=True):
            assert (step.phase, step.score, step.kept) == (state["phase"], state["score"], True)
            assert step.subnetwork.heads.astype(int).tolist() == state["heads"]
            for part, name in (("heads", "head_importance"), ("mlps", "mlp_importance")):
                np.testing.assert_allclose(getattr(step.importance, part), state[name], rtol=5e-3)
    with pytest.raises(LotteryError, match=r"holds no searches.json: 'lottery run' publishes it"):
        load_searches(tmp_path)


def test_the_source_of_what_is_published_is_told_in_a_few_words(run):
    folder = run[1] / "tiny" / "similarity"
    told = "tiny on Similarity (generated), 16 training rows, 12 dev rows, products in "
    on_cpu = "the device's own precision (float32 on a CPU)"
    request = json.loads((folder / "request.json").read_text())["request"]
    for precision, said in (("auto", on_cpu), ("bfloat16", "bfloat16")):
        place = folder.parents[1] / precision
        on_record(place, **request | {"dev_rows": 12, "precision": precision})
        assert describe_source(place) == told + said


def test_published_scores_are_those_of_the_pages_each_once(run):
    made, pages = run
    table = load_results(pages, every_draw=True)
    scored = {entry for page in PAGES if page in GRIDS for entry in GRIDS[page]}
    rows = table[table["method"] != "none"]
    found = set(map(tuple, rows[["method", "subnetwork", "phase"]].to_numpy()))
    assert found == scored
    for row in rows[rows["reported"]].itertuples():
        score = made.score(row.seed, row.method, row.subnetwork, row.phase)
        assert row.value == pytest.approx(score.metrics["pearson"], rel=1e-5)
        assert row.seconds >= 0
    one = ["seed", "method", "subnetwork", "phase", "draw", "metric"]
    assert not table.duplicated(one).any()
    assert set(table["seed"]) == {0, 1, 3}


def test_published_patterns_are_the_counts(run):
    made, pages = run
    table = load_patterns(pages, "tiny")
    assert set(table["task"]) == {"similarity"}
    for (condition, seed), one in table.groupby(["condition", "seed"]):
        counts = count_patterns(made, seed, condition)
        wanted = [[*place, *counts[place]] for place in np.ndindex(counts.shape[:2])]
        assert one[["layer", "head", *PATTERNS]].to_numpy().tolist() == wanted
        assert (counts.sum(axis=2) == 16).all()  # each head sees every dev example
    assert len(table) == len(CONDITIONS) * 2 * 3 * 4


def test_the_same_run_publishes_the_same_bytes(run, tmp_path):
    made, pages = run
    folder = pages / "tiny" / "similarity"
    publish(made, PAGES, tmp_path / "a" / "b")
    tables = {"results.csv", "predictions.parquet", "subnetworks.json", "searches.json"}
    tables |= {"patterns.csv", "importance.csv"}
    assert {path.name for path in folder.iterdir()} == tables | {"request.json"}
    for name in tables:
        assert (tmp_path / "a" / "b" / name).read_bytes() == (folder / name).read_bytes()


def test_patterns_that_no_page_published_are_a_sentence(run, tmp_path):
    made, _ = run
    claim(requests_of([(made, PAGES[:1])], tmp_path))
    publish(made, PAGES[:1], tmp_path / "tiny" / "similarity")
    with pytest.raises(LotteryError, match=r"no attention patterns of encoder 'tiny'"):
        load_patterns(tmp_path, "tiny")
    with pytest.raises(LotteryError, match=r"no subnetworks of encoder 'minilm'.*lottery run"):
        load_subnetworks(tmp_path, "minilm")
    assert load_subnetworks(tmp_path, "tiny")[1]["similarity"].keys() == {"structured"}


def placed(pages, source, task, encoder="tiny", **shape):
    """A copy of a published run under another name, of an encoder of other sizes."""
    content = json.loads((source / "tiny" / "similarity" / "subnetworks.json").read_text())
    content["shape"] |= shape
    folder = pages / encoder / task
    folder.mkdir(parents=True)
    (folder / "subnetworks.json").write_text(json.dumps(content))
    on_record(folder, task=task)


def test_tasks_come_in_the_order_of_their_table_and_share_an_encoder(run, tmp_path):
    made, source = run
    for task in ("mood", "similarity", "cola", "a-mood", "wnli", "sst2"):
        placed(tmp_path, source, task, total=made.shape.total + len(task))
    placed(tmp_path, source, "rte", encoder="other")
    on_record(tmp_path / "tiny" / "mrpc", task="mrpc")  # its pages are being made
    shape, found = load_subnetworks(tmp_path, "tiny")
    assert list(found) == ["cola", "sst2", "wnli", "similarity", "a-mood", "mood"]
    assert dataclasses.replace(shape, total=made.shape.total) == made.shape


def test_the_overview_is_of_an_encoder_that_has_runs(run, tmp_path):
    _, pages = run
    assert check_overview({"encoder": "tiny", "pages": str(pages), "_hidden": 1}) == pages
    for given, message in (
        ({"encoder": "tyni", "pages": str(pages)}, r"'tyni'. Did you mean 'tiny'\?"),
        ({"encoder": "tiny", "pages": str(tmp_path / "no")}, "pages .*no does not exist"),
        ({"encoder": "tiny", "pages": str(pages), "encodr": "x"}, r"Did you mean 'encoder'\?"),
    ):
        with pytest.raises(LotteryError, match=message):
            check_overview(given)
