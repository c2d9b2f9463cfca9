"""The jobs behind pages: all that the pages ask for, and what each of them starts from."""

import itertools
import json
import random
from collections import Counter

import pytest

from lotterylib.report.results import COLUMNS, collect
from lotterylib.report.tables import time_taken
from lotterylib.runs.jobs import ALL, compute, jobs_of, key_of, needs_of, pieces_of
from lotterylib.runs.methods import CORE, EXTRAS, GRIDS, METHODS, PHASES
from lotterylib.runs.pattern_counts import shares_table, survival_and_shares
from lotterylib.runs.schedule import Schedule
from lotterylib.runs.store import RunStore
from tests.small import half_of, is_done, small_experiment

PATTERN_PAGE, BASELINE_PAGE = "07_attention_patterns", "09_how_bad_is_bad"
VALUES = {"task": "similarity", "seeds": [3, 1], "max_length": 32}


def experiment(root, **changes):
    return small_experiment(root, **(VALUES | changes))


@pytest.fixture(scope="module", autouse=True)
def _small(small_runs):
    """All of this file runs on few rows."""


def only_read(monkeypatch):
    """From here on nothing may be computed."""
    fetch = RunStore.fetch

    def read(store, key, make, device="cpu"):
        assert store.has(key), f"{key.stage} is computed outside its job"
        return fetch(store, key, make, device)

    monkeypatch.setattr(RunStore, "fetch", read)


def scored_by(pages):
    return {scored for page, grid in GRIDS.items() if page in pages for scored in grid}


SETS_OF_PAGES = [CORE, ALL, ("01_finetune",), (PATTERN_PAGE,), (*CORE, BASELINE_PAGE)]
SETS_OF_PAGES += [*((page,) for page in EXTRAS.values()), CORE[1:3]]


@pytest.mark.parametrize("pages", SETS_OF_PAGES, ids=lambda pages: f"{pages[-1]}-{len(pages)}")
def test_what_pages_score_is_a_job_once_per_seed_and_what_it_needs_comes_before(pages, tmp_path):
    for preset in ("paper", "official"):
        settings = experiment(tmp_path, preset=preset).settings
        jobs = jobs_of(settings, pages)
        assert len(set(jobs)) == len({(job.label, job.seed) for job in jobs}) == len(jobs)
        other = ("baseline", "classifier", "finetune", "search", "importance", "ablation")
        others = [*other, "patterns"]
        scored = [(c.seed, (c.method, c.kind, c.stage)) for c in jobs if c.stage not in others]
        wanted = {(seed, entry) for seed in (3, 1) for entry in scored_by(pages)}
        assert sorted(scored) == sorted(wanted)
        before = set()
        for job in jobs:
            assert before.issuperset(needs_of(job, settings)), job
            before.add(job)
        drawn = settings.but(draws=(("magnitude", 2), ("structured", 2)), halves=2)
        jobs = jobs_of(drawn, pages)
        assert {need for job in jobs for need in needs_of(job, drawn)} <= {*jobs}


def test_in_any_order_that_its_needs_allow_a_job_makes_nothing_of_another(tmp_path):
    made = experiment(tmp_path, preset="official")  # which measures inside super-survivors too
    pieces = pieces_of([(made, ALL)])
    _ = made.splits
    draw = random.Random(1)
    needs = {place: piece.needs for place, piece in pieces.items()}
    schedule = Schedule(needs, {place: draw.random() for place in pieces})
    done, there = 0, {path.parent for path in tmp_path.rglob("config.json")}
    while schedule:
        place = schedule.take()
        job = pieces[place].job
        compute(made, job)
        now = {path.parent for path in tmp_path.rglob("config.json")}
        for folder in now - there - {place}:
            # The random, bad and inverted subnetworks come with the first score of theirs.
            stage = json.loads((folder / "config.json").read_text())["stage"]
            assert stage == f"{job.kind}-{job.method}", job
        assert place in now - there
        there = now
        schedule.done(place)
        done += 1
    assert done == len(pieces)


@pytest.mark.parametrize("pages", SETS_OF_PAGES, ids=lambda pages: f"{pages[-1]}-{len(pages)}")
@pytest.mark.parametrize("task", ["similarity", "acceptability"])
def test_baselines_and_measurements_belong_to_their_pages(pages, task, tmp_path):
    jobs = jobs_of(experiment(tmp_path, task=task).settings, pages)
    more = ["bag", "bilstm"] + ["guess"] * (task == "similarity")
    baselines = ["frozen", *(more if BASELINE_PAGE in pages else [])]
    assert [job.kind for job in jobs if job.stage == "baseline"] == baselines
    counts = Counter(job.stage for job in jobs)
    own = "05_stability" in pages or "11_extensions" in pages  # as the setting says
    assert counts["importance"] == 2 * (3 if "02_structured_pruning" in pages else own)
    assert counts["patterns"] == 2 * 4 * (PATTERN_PAGE in pages)
    assert counts["ablation"] == 2 * ("11_extensions" in pages)
    assert counts["classifier"] == (PATTERN_PAGE in pages)
    assert all(job.seed == 0 for job in jobs if job.stage in ("baseline", "classifier"))


def test_one_seed_has_no_super_survivors(tmp_path):
    jobs = jobs_of(experiment(tmp_path, seeds=[3]).settings, ALL)
    assert not any(job.method == "super" for job in jobs)
    assert {job.seed for job in jobs} == {0, 3}


@pytest.mark.parametrize("preset", ["paper", "official"])
def test_page_7_alone_finds_all_that_it_needs(preset, tmp_path, monkeypatch):
    monkeypatch.setattr("lotterylib.runs.experiment.find_good", half_of)
    made = experiment(tmp_path, preset=preset)
    jobs = jobs_of(made.settings, [PATTERN_PAGE])
    patterns = [job for job in jobs if job.stage == "patterns"]
    assert len(patterns) == {"paper": 2 * 4, "official": 2 * 2 * 4}[preset]
    for job in jobs:
        compute(made, job)
    only_read(monkeypatch)
    assert len(shares_table(made)) == 2 * 4
    survival_and_shares(made, "fine-tuned, normed")


@pytest.mark.parametrize("preset", ["paper", "official"])
def test_no_two_jobs_share_a_place_in_the_store(preset, tmp_path):
    jobs, paths = 0, set()
    for task in ("similarity", "acceptability"):
        made = experiment(tmp_path, task=task, preset=preset)
        for job in jobs_of(made.settings, ALL):
            jobs += 1
            paths.add(key_of(made, job).path)
    assert len(paths) == jobs - 1 > 300  # both tasks share the classifier


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Every page of one seed, and the core pages of two."""
    made = experiment(tmp_path_factory.mktemp("runs"))
    alone = experiment(made.store.root, seeds=[3])
    pages = tuple(page for page in ALL if page not in ("05_stability", "06_super_survivors"))
    told = {}
    for each, wanted in ((alone, pages), (made, CORE)):
        for job in jobs_of(each.settings, wanted):
            told[job] = compute(each, job)
            assert is_done(each, job)
    return made, alone, pages, told


def test_every_job_says_what_was_found(done):
    made, _, _, told = done
    starts = {"search": "keeps ", "importance": "measured", "classifier": "trained"}
    starts |= {"ablation": "without the head that matters most "}
    starts |= {"patterns": f"{16 * 12} maps classified"}
    for job, found in told.items():
        assert found.startswith(starts.get(job.stage, "pearson ")), job
        if job.stage in PHASES:
            score = made.score(job.seed, job.method, job.kind, job.stage)
            assert f"pearson {score.metrics['pearson']:.3f}" in found
            assert found.endswith(", a constant predictor") == score.constant


def test_the_pages_find_everything_computed(done, monkeypatch):
    """What the results table of the pages needs is what the jobs computed, and nothing else."""
    made, alone, pages, _ = done
    only_read(monkeypatch)
    for each, wanted in ((alone, pages), (made, CORE)):
        table = collect(each, *wanted)
        assert list(table.columns) == list(COLUMNS)
        reported = table[table["reported"]]
        scored = reported[reported["method"] != "none"]
        entries = scored[["method", "subnetwork", "phase", "seed"]].itertuples(index=False)
        seeds = each.settings.seeds
        of_pages = itertools.product(scored_by(wanted), seeds)
        assert sorted(map(tuple, entries)) == sorted((*entry, seed) for entry, seed in of_pages)
        rest = reported[reported["method"] == "none"]["subnetwork"].tolist()
        more = ["bag", "bilstm", "guess"] if BASELINE_PAGE in wanted else []
        assert rest == ["majority", "frozen", *more, *["full"] * len(seeds)]
        assert reported[reported["subnetwork"] != "majority"]["seconds"].notna().all()
        assert set(table["metric"]) == {"pearson", "spearman", "pearson_spearman"}


def test_the_results_table_says_what_the_store_says(done):
    _, alone, pages, _ = done
    table = collect(alone, *pages)
    rows = table[table["reported"]].set_index(["method", "subnetwork", "phase"])
    for job in jobs_of(alone.settings, pages):
        if not job.method or job.stage in ("search", "patterns"):
            continue
        row = rows.loc[(job.method, job.kind, job.stage)]
        score = alone.score(3, job.method, job.kind, job.stage)
        assert row["value"] == score.metrics["pearson"]
        kept = alone.subnetwork(3, job.method, job.kind)
        assert row["density"] == kept.density(alone.shape)
        assert row["seconds"] == alone.store.provenance(key_of(alone, job))["seconds"]
    assert collect(alone).to_csv() == collect(alone, "04_subnetworks").to_csv()  # by default


def test_the_time_taken_has_a_row_for_every_seed_of_every_label(done):
    made, *_ = done
    table = time_taken(made, "finetune", "search structured")
    wanted = [(label, seed) for label in ("finetune", "search structured") for seed in (3, 1)]
    assert list(zip(table["what"], table["seed"], strict=True)) == wanted


def test_draws_and_halves_are_jobs_of_their_own_and_the_first_are_those_of_one(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("lotterylib.runs.experiment.find_good", half_of)
    pages = ("04_subnetworks", "10_variants")
    once, more = (experiment(tmp_path, **each) for each in ({}, {"draws": 3, "halves": 2}))
    jobs = jobs_of(more.settings, pages)
    drawn = {(job.stage, job.method, job.kind) for job in jobs if job.number == 2}
    assert drawn == set(itertools.product(PHASES, METHODS, ("random", "bad")))
    halves = {(job.stage, job.method, job.kind) for job in jobs if job.number == 1} - drawn
    half_dev = [f"{method}-half-dev" for method in METHODS]
    assert halves == {(s, m, k) for m in half_dev for s, k in (("search", ""), ("pruned", "good"))}
    before = jobs_of(once.settings, pages)
    assert [job for job in jobs if not job.number] == before
    for job in (*before, *jobs):
        compute(more, job)
    only_read(monkeypatch)
    for seed, method in itertools.product((3, 1), METHODS):
        found = [more.subnetwork(seed, method, "random", number=number) for number in range(3)]
        assert not any(one == other for one, other in itertools.combinations(found, 2))
    table, first = collect(more, *pages, every_draw=True), collect(once, *pages)
    of_request = ["request", "draws", "halves"]
    first = first.drop(columns=of_request)
    assert collect(more, *pages).drop(columns=of_request).equals(first)
    zero = table[table["draw"] == 0].reset_index(drop=True)
    assert zero.drop(columns=of_request).equals(first)
    further = table[table["reported"] & (table["draw"] > 0)]
    by = further.groupby(["method", "subnetwork", "phase", "draw"])["seed"].agg(sorted)
    assert set(by.map(tuple)) == {(1, 3)}
    assert len(by) == 2 * len(drawn) + 2
    assert further[further["method"] == half_dev[0]]["overlap_with_good"].eq(1).all()
