"""The pieces of work behind pages: all that the pages ask for, in an order that works."""

import pytest

from lotterylib.finetuning import silent
from lotterylib.report.results import COLUMNS, collect
from lotterylib.runs.jobs import ALL, Cell, cells_of, compute, is_done, key_of, provenance
from lotterylib.runs.methods import ALL_METHODS, CORE, EXTRAS, GRIDS
from lotterylib.runs.pattern_counts import shares_table
from lotterylib.runs.store import RunStore
from tests.small import small_experiment

PATTERN_PAGE, BASELINE_PAGE = "07_attention_patterns", "09_how_bad_is_bad"
NEEDS = {
    "union": {"heads", "mlps"},
    "agreement": {"structured"},
    "matched": {"structured"},
    "pre-trained": {"magnitude"},
    "iterative": {"magnitude"},
}


def experiment(root, **changes):
    return small_experiment(root, **({"task": "similarity", "seeds": [3, 1]} | changes))


@pytest.fixture(scope="module", autouse=True)
def _small(small_runs):
    """All of this file runs on few rows."""


def only_read(monkeypatch):
    """From here on nothing may be computed."""
    fetch = RunStore.fetch

    def read(store, key, make, device="cpu"):
        assert store.has(key), f"{key.stage} is computed outside its cell"
        return fetch(store, key, make, device)

    monkeypatch.setattr(RunStore, "fetch", read)


def scored_by(pages):
    return {scored for page, grid in GRIDS.items() if page in pages for scored in grid}


SETS_OF_PAGES = [
    CORE,
    ALL,
    *((*CORE, page) for page in EXTRAS.values()),
    *((page,) for page in EXTRAS.values()),
    ("01_finetune",),
    ("02_structured_pruning", "03_magnitude_pruning"),
]


@pytest.mark.parametrize("pages", SETS_OF_PAGES, ids=lambda pages: f"{pages[-1]}-{len(pages)}")
def test_every_subnetwork_that_a_page_scores_is_a_cell_once_per_seed(pages, tmp_path):
    cells = list(cells_of(experiment(tmp_path).settings, pages))
    assert len(set(cells)) == len(cells)
    assert len({(cell.label, cell.seed) for cell in cells}) == len(cells)
    other = ("baseline", "finetune", "search", "importance", "ablation", "patterns")
    scored = [(c.seed, (c.method, c.kind, c.stage)) for c in cells if c.stage not in other]
    wanted = {(seed, entry) for seed in (3, 1) for entry in scored_by(pages)}
    assert set(scored) == wanted
    assert len(scored) == len(wanted)


@pytest.mark.parametrize("pages", SETS_OF_PAGES, ids=lambda pages: f"{pages[-1]}-{len(pages)}")
@pytest.mark.parametrize("preset", ["paper", "official"])
def test_what_a_cell_needs_comes_before_it(pages, preset, tmp_path):
    """Otherwise the time of one cell would be spent, and told, under the name of another."""
    before = set()
    for cell in cells_of(experiment(tmp_path, preset=preset).settings, pages):
        if cell.stage != "baseline":
            assert cell.stage == "finetune" or ("finetune", cell.seed, "") in before
        if cell.stage == "search":
            way = ALL_METHODS[cell.method].way
            for needed in NEEDS.get(way, ()):
                for seed in (3, 1) if way == "agreement" else (cell.seed,):
                    assert ("search", seed, needed) in before, cell
        elif cell.method:
            assert ("search", cell.seed, cell.method) in before
        before.add((cell.stage, cell.seed, cell.method))


@pytest.mark.parametrize("pages", SETS_OF_PAGES, ids=lambda pages: f"{pages[-1]}-{len(pages)}")
@pytest.mark.parametrize("task", ["similarity", "acceptability"])
def test_baselines_and_measurements_belong_to_their_pages(pages, task, tmp_path):
    cells = list(cells_of(experiment(tmp_path, task=task).settings, pages))
    stages = {
        stage: [cell.kind for cell in cells if cell.stage == stage and cell.seed in (0, 3)]
        for stage in ("baseline", "importance", "patterns", "ablation")
    }
    more = ["bag", "bilstm"] + ["guess"] * (task == "similarity")
    assert stages["baseline"] == ["frozen", *(more if BASELINE_PAGE in pages else [])]
    assert len(stages["importance"]) == 3 * ("02_structured_pruning" in pages)
    assert len(stages["patterns"]) == 4 * (PATTERN_PAGE in pages)
    assert len(stages["ablation"]) == ("11_extensions" in pages)
    assert all(cell.seed == 0 for cell in cells if cell.stage == "baseline")


def test_one_seed_has_no_super_survivors(tmp_path):
    cells = list(cells_of(experiment(tmp_path, seeds=[3]).settings, ALL))
    assert not any(cell.method == "super" for cell in cells)
    assert {cell.seed for cell in cells} == {0, 3}


@pytest.mark.parametrize("preset", ["paper", "official"])
def test_figure_4_finds_its_patterns_counted(preset, tmp_path, monkeypatch):
    made = experiment(tmp_path, preset=preset)
    cells = [cell for cell in cells_of(made.settings) if cell.stage == "patterns"]
    assert len(cells) == {"paper": 2 * 4, "official": 2 * 2 * 4}[preset]
    for cell in (*cells, Cell("search", 3, "super"), Cell("search", 1, "super")):
        compute(made, cell, silent)
    only_read(monkeypatch)
    assert len(shares_table(made)) == 2 * 4


@pytest.mark.parametrize("preset", ["paper", "official"])
def test_no_two_cells_share_a_place_in_the_store(preset, tmp_path):
    cells, paths = 0, set()
    for task in ("similarity", "acceptability"):
        made = experiment(tmp_path, task=task, preset=preset)
        for cell in cells_of(made.settings, ALL):
            cells += 1
            paths.add(key_of(made, cell).path)
    assert len(paths) == cells > 300


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Every page of one seed, and the core pages of two."""
    made = experiment(tmp_path_factory.mktemp("runs"))
    alone = experiment(made.store.root, seeds=[3])
    pages = tuple(page for page in ALL if page not in ("05_stability", "06_super_survivors"))
    told = {}
    for each, wanted in ((alone, pages), (made, CORE)):
        for cell in cells_of(each.settings, wanted):
            told[cell] = compute(each, cell, silent)
            assert is_done(each, cell)
    return made, alone, pages, told


def test_every_cell_says_what_was_found(done):
    _, _, _, told = done
    for cell, found in told.items():
        start = {
            "search": "keeps ",
            "importance": "measured",
            "ablation": "without the head that matters most ",
            "patterns": "",
        }.get(cell.stage, "pearson ")
        assert found.startswith(start), cell
    assert {found for cell, found in told.items() if cell.stage == "patterns"} == {
        f"{16 * 12} maps classified"
    }


def test_a_score_is_told_with_three_digits_and_whether_it_is_constant(done):
    made, _, _, told = done
    for cell, found in told.items():
        if cell.stage in ("pruned", "retrained"):
            score = made.score(cell.seed, cell.method, cell.kind, cell.stage)
            assert f"pearson {score.metrics['pearson']:.3f}" in found
            assert found.endswith(", a constant predictor") == score.constant


def test_the_pages_find_everything_computed(done, monkeypatch):
    """What the results table of the pages needs is what the cells computed, and nothing else."""
    made, alone, pages, _ = done
    only_read(monkeypatch)
    for each, wanted in ((alone, pages), (made, CORE)):
        table = collect(each, *wanted)
        assert list(table.columns) == list(COLUMNS)
        reported = table[table["reported"]]
        scored = reported[reported["method"] != "none"]
        entries = scored[["method", "subnetwork", "phase", "seed"]].itertuples(index=False)
        seeds = each.settings.seeds
        assert sorted(map(tuple, entries)) == sorted(
            (*entry, seed) for entry in scored_by(wanted) for seed in seeds
        )
        rest = reported[reported["method"] == "none"]["subnetwork"].tolist()
        more = ["bag", "bilstm", "guess"] if BASELINE_PAGE in wanted else []
        assert rest == ["majority", "frozen", *more, *["full"] * len(seeds)]
        timed = reported[reported["subnetwork"] != "majority"]
        assert timed["seconds"].notna().all()
        assert set(table["metric"]) == {"pearson", "spearman", "pearson_spearman"}


def test_the_results_table_says_what_the_store_says(done):
    _, alone, pages, _ = done
    table = collect(alone, *pages)
    for cell in cells_of(alone.settings, pages):
        if not cell.method or cell.stage == "search":
            continue
        row = table[
            (table["method"] == cell.method)
            & (table["subnetwork"] == cell.kind)
            & (table["phase"] == cell.stage)
            & table["reported"]
        ].iloc[0]
        score = alone.score(3, cell.method, cell.kind, cell.stage)
        subnetwork = alone.subnetwork(3, cell.method, cell.kind)
        assert row["value"] == score.metrics["pearson"]
        assert row["density"] == subnetwork.density(alone.shape)
        assert row["seconds"] == provenance(alone, cell)["seconds"]


def test_the_default_page_is_figure_2(done):
    _, alone, _, _ = done
    table = collect(alone)
    figure = collect(alone, "04_subnetworks")
    assert table.to_csv() == figure.to_csv()
    assert len(table[table["reported"] & (table["method"] != "none")]) == 12


def test_labels_are_made_of_what_there_is():
    assert Cell("finetune", 3).label == "finetune"
    assert Cell("search", 3, "heads").label == "search heads"
    assert Cell("patterns", 3, kind="fine-tuned, raw").label == "patterns fine-tuned, raw"
    assert Cell("from scratch", 3, "structured", "random").label == "from scratch structured random"
