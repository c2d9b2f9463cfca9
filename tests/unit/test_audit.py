"""The audit: it says equal where masks give what is reported, and different where one is altered.

Made-up masks have the reported sizes and super-survivors; all that hangs on which heads survive
needs the authors' own, through LOTTERY_AUTHORS_DIR.
"""

import dataclasses

import numpy as np
import pandas as pd
import pytest

import lotterylib.runs.store
from lotterylib.agreement import stability_table
from lotterylib.errors import LotteryError
from lotterylib.overlap import TaskOverlap, task_overlap
from lotterylib.report import audit, paper
from lotterylib.report.imported import BERT_BASE, FOLDERS, import_masks
from lotterylib.runs.store import RunStore
from lotterylib.subnetworks import StructuredSubnetwork
from lotterylib.tasks import TASKS

GLUE = [name for name, task in TASKS.items() if not task.is_bundled]
TITLES = [TASKS[name].title for name in GLUE]
SEEDS = [1337, 42, 86, 71, 166]


def deal(sizes, shared, items):
    """A mask per size; all have the first `shared` items in common and nothing else.

    The other items are dealt out in turn, so that none comes round to every seed.
    """
    masks, dealt = [], 0
    for size in sizes:
        places = shared + (dealt + np.arange(size - shared)) % max(items - shared, 1)
        masks.append(np.isin(np.arange(items), [*range(shared), *places]))
        dealt += size - shared
    return masks


def reported(method, task):
    table = paper.sizes().query("method == @method and subnetwork == 'good' and task == @task")
    return table.set_index("seed").loc[SEEDS]


@pytest.fixture(scope="module")
def made_up():
    """By method and task: masks of the reported sizes, with the reported super-survivors."""
    masks = {"structured": {}, "heads": {}, "mlps": {}}
    for task in GLUE:
        theirs, together = reported("structured", task), reported("super", task)
        heads = deal(theirs["heads"], together["heads"].iloc[0], 144)
        mlps = deal(theirs["mlps"], together["mlps"].iloc[0], 12)
        masks["structured"][task] = dict(zip(SEEDS, zip(heads, mlps, strict=True), strict=True))
        for part, items in (("heads", 144), ("mlps", 12)):
            alone = deal(reported(part, task)[part], 0, items)
            other = np.ones(156 - items, dtype=bool)
            masks[part][task] = {
                seed: (mask, other) if part == "heads" else (other, mask)
                for seed, mask in zip(SEEDS, alone, strict=True)
            }
    return masks


@pytest.fixture(scope="module", autouse=True)
def _no_commit():
    """What the commit is does not matter here, and asking for it takes a process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lotterylib.runs.store, "_commit", lambda: "0123456789ab")
        yield


def imported(root, masks):
    """Write masks in the authors' layout, import them, and open what was imported."""
    for method, tasks in masks.items():
        for task, seeds in tasks.items():
            for seed, (heads, mlps) in seeds.items():
                folder = root / "masks" / FOLDERS[method] / TASKS[task].tsv_folder / f"seed_{seed}"
                folder.mkdir(parents=True)
                if method != "mlps":
                    np.save(folder / "head_mask.npy", heads.reshape(12, 12).astype(float))
                if method != "heads":
                    np.save(folder / "mlp_mask.npy", mlps.astype(float))
    import_masks(root, RunStore(root / "runs"))
    return audit.open_audit({"run_store": str(root / "runs")})


@pytest.fixture(scope="module")
def found(made_up, tmp_path_factory):
    return imported(tmp_path_factory.mktemp("authors"), made_up)


def altered(good, task, seed, change):
    """The subnetworks with one of them changed."""
    kept = good[task][seed]
    changed = StructuredSubnetwork(kept.heads.copy(), kept.mlps.copy())
    change(changed)
    return {**good, task: {**good[task], seed: changed}}


def without_a_head(kept):
    kept.heads[tuple(np.argwhere(kept.heads)[0])] = False


def without_an_mlp(kept):
    kept.mlps[np.flatnonzero(kept.mlps)[0]] = False


def with_another_head(kept):
    """As many heads, but not the same."""
    one, other = np.argwhere(kept.heads)[0], np.argwhere(~kept.heads)[-1]
    kept.heads[tuple(one)], kept.heads[tuple(other)] = False, True


def agreeing(table):
    return [title for title, agrees in table["agrees"].items() if agrees]


# Opening


def test_what_was_imported_is_opened_in_the_order_of_the_tasks(found, made_up):
    assert set(found) == {"structured", "heads", "mlps"}
    for method, tasks in found.items():
        assert list(tasks) == GLUE
        for task, seeds in tasks.items():
            for seed, kept in seeds.items():
                heads, mlps = made_up[method][task][seed]
                np.testing.assert_array_equal(kept.heads.ravel(), heads)
                np.testing.assert_array_equal(kept.mlps, mlps)


def test_nothing_imported_is_a_sentence_that_says_what_to_do(tmp_path):
    with pytest.raises(LotteryError, match=r"holds no imported masks.*lottery import-masks.*\.$"):
        audit.open_audit({"run_store": str(tmp_path)})


def test_a_misspelt_parameter_is_refused_before_anything_is_read(tmp_path):
    names = {"run_store": str(tmp_path / "runs"), "run_stor": "elsewhere"}
    with pytest.raises(
        LotteryError, match=r"Unknown parameter 'run_stor'\. Did you mean 'run_store'"
    ):
        audit.open_audit(names)


# Sizes


def test_masks_of_the_reported_sizes_agree(found):
    table = audit.sizes_beside(found["structured"])
    assert agreeing(table) == TITLES == list(table.index)
    by_seed = reported("structured", "rte").sort_index()
    assert table.loc["RTE", "heads"] == ", ".join(map(str, by_seed["heads"]))
    assert table.loc["RTE", "MLPs"] == ", ".join(map(str, by_seed["mlps"]))
    for task in GLUE:
        kept = found["structured"][task].values()
        row = table.loc[TASKS[task].title]
        assert row["encoder"] == pytest.approx(np.mean([k.density(BERT_BASE) for k in kept]))
        assert row["printed"] == pytest.approx(row["reported"], abs=5.1e-5)


@pytest.mark.parametrize("method", ["heads", "mlps"])
def test_so_do_those_of_heads_alone_and_of_mlps_alone(found, method):
    assert agreeing(audit.sizes_beside(found[method], method)) == TITLES
    # the sizes of one search are not those of another
    assert len(agreeing(audit.sizes_beside(found[method], "structured"))) < len(GLUE) / 2


@pytest.mark.parametrize(
    ("task", "change"),
    [
        ("cola", without_a_head),
        ("cola", without_an_mlp),
        ("stsb", without_an_mlp),
        ("wnli", without_a_head),
    ],
)
def test_a_head_or_mlp_too_few_is_told_of_exactly_its_task(found, task, change):
    seed = 86  # the only seed for which any head survives on WNLI
    table = audit.sizes_beside(altered(found["structured"], task, seed, change))
    assert agreeing(table) == [title for title in TITLES if title != TASKS[task].title]


def test_sizes_are_compared_seed_by_seed(found):
    """Swapping two seeds changes no mean."""
    seeds = dict(found["structured"]["sst2"])
    seeds[42], seeds[71] = seeds[71], seeds[42]
    table = audit.sizes_beside({**found["structured"], "sst2": seeds})
    assert agreeing(table) == [title for title in TITLES if title != "SST-2"]


def test_a_seed_that_the_paper_does_not_have_does_not_agree(found):
    seeds = found["structured"]["mnli"]
    renamed = {(7 if seed == 42 else seed): kept for seed, kept in seeds.items()}
    assert agreeing(audit.sizes_beside({"mnli": renamed})) == []
    assert agreeing(audit.sizes_beside({"mnli": seeds})) == ["MNLI"]


def test_the_printed_share_is_that_of_all_seeds(found):
    seeds = found["structured"]["mnli"]
    fewer = {seed: kept for seed, kept in seeds.items() if seed != 42}
    table = audit.sizes_beside({"mnli": fewer})
    assert table.loc["MNLI", "printed"] == pytest.approx(table.loc["MNLI", "reported"], abs=0.02)
    assert agreeing(table) == []


# Super-survivors


def test_super_survivors_of_the_reported_number_agree(found):
    table = audit.super_beside(found["structured"])
    assert agreeing(table) == TITLES
    assert (table["heads"] == table["heads reported"]).all()
    assert (table["MLPs"] == table["MLPs reported"]).all()
    assert table.loc["SST-2", ["heads", "MLPs"]].tolist() == [19, 2]
    printed = reported("super", "sst2")["printed_mean"].iloc[0]
    assert table.loc["SST-2", "printed"] == pytest.approx(printed, abs=5.1e-5)


def test_other_heads_in_one_seed_are_told_of_exactly_its_task(found):
    good = altered(found["structured"], "qnli", 71, with_another_head)
    assert agreeing(audit.sizes_beside(good)) == TITLES  # as many as before
    table = audit.super_beside(good)
    assert agreeing(table) == [title for title in TITLES if title != "QNLI"]
    assert table.loc["QNLI", "heads"] == table.loc["QNLI", "heads reported"] - 1


# Stability


@pytest.fixture
def known_stability(found, monkeypatch):
    """What the made-up masks give, as if it had been reported with its usual digits."""
    rows = []
    for task in ("cola", "rte", "wnli"):
        for part, row in stability_table(list(found["structured"][task].values())).iterrows():
            values = {"task": task, "part": part}
            values |= {name: round(row[name], digits) for name, digits in audit.DIGITS.items()}
            values["cochran_p"] = float(f"{row['cochran_p']:.4g}")
            rows.append(values)
    table = pd.DataFrame(rows)
    table.loc[table["part"] == "mlps", "overlap"] = np.nan  # as in the paper's table
    monkeypatch.setattr(paper, "stability", lambda: table.copy())
    return table


@pytest.mark.parametrize("part", ["heads", "mlps"])
def test_stability_is_compared_to_the_digits_reported(found, known_stability, part):
    few = {task: found["structured"][task] for task in ("cola", "rte", "wnli")}
    table = audit.stability_beside(few, part)
    assert agreeing(table) == ["CoLA", "RTE", "WNLI"]
    theirs = known_stability[known_stability["part"] == part].set_index("task")
    for task in few:
        row = table.loc[TASKS[task].title]
        wanted = stability_table(list(few[task].values())).loc[part]
        assert {name: row[name] for name in wanted.index} == pytest.approx(
            wanted.to_dict(), nan_ok=True
        )
        assert row["kappa known"] == pytest.approx(theirs["kappa"][task], nan_ok=True)
        assert row["cochran_p known"] == pytest.approx(theirs["cochran_p"][task], nan_ok=True)


@pytest.mark.parametrize(
    ("column", "factor"),
    [("kappa", 1.001), ("cochran_q", 1.001), ("jaccard", 1.001), ("cochran_p", 1.002)],
)
def test_any_reported_value_that_differs_is_told(
    found, known_stability, monkeypatch, column, factor
):
    two = {task: found["structured"][task] for task in ("cola", "rte")}
    other = known_stability.copy()
    place = (other["task"] == "rte") & (other["part"] == "heads")
    other.loc[place, column] *= factor
    monkeypatch.setattr(paper, "stability", lambda: other)
    assert agreeing(audit.stability_beside(two, "heads")) == ["CoLA"]
    assert agreeing(audit.stability_beside(two, "mlps")) == ["CoLA", "RTE"]


def test_where_nothing_was_reported_nothing_differs(found, known_stability, monkeypatch):
    two = {task: found["structured"][task] for task in ("cola", "rte")}
    empty = known_stability.copy()
    empty.loc[empty["task"] == "rte", [*audit.DIGITS, "cochran_p"]] = np.nan
    monkeypatch.setattr(paper, "stability", lambda: empty)
    assert agreeing(audit.stability_beside(two, "heads")) == ["CoLA", "RTE"]


@pytest.mark.usefixtures("known_stability")
def test_other_heads_of_one_seed_change_what_is_compared(found):
    two = {task: found["structured"][task] for task in ("cola", "rte")}
    good = altered(two, "cola", 42, with_another_head)
    assert agreeing(audit.stability_beside(good, "heads")) == ["RTE"]
    assert agreeing(audit.stability_beside(good, "mlps")) == ["CoLA", "RTE"]


# Overlap between tasks


def reported_overlap(name, tasks=tuple(GLUE)):
    """What the paper's table says, as if it had been computed."""
    table = paper.task_overlap(name)
    arrays = {
        column: table.pivot(index="task", columns="other", values=column)
        .loc[list(tasks), list(tasks)]
        .to_numpy(dtype=float)
        for column in ("mean", "sd", "chance")
    }
    part = "mlps" if name == "mlps" else "heads"
    return TaskOverlap(part=part, tasks=tasks, p=np.full_like(arrays["mean"], np.nan), **arrays)


@pytest.mark.parametrize(
    ("name", "of"), [("heads", "good"), ("mlps", "good"), ("super heads", "super")]
)
def test_a_reported_overlap_agrees_down_to_its_last_digit(name, of):
    overlap = reported_overlap(name)
    assert audit.overlap_agrees(overlap, of)
    assert audit.overlap_agrees(reported_overlap(name, ("rte", "cola", "mnli")), of)
    for column, off in (("mean", 0.06), ("chance", 0.006), ("sd", 0.006)):
        value = getattr(overlap, column).copy()
        value[2, 5] += 0.8 * off
        assert audit.overlap_agrees(dataclasses.replace(overlap, **{column: value}), of)
        value[2, 5] += 0.2 * off
        # one subnetwork per task has no deviation to compare
        differs = not (of == "super" and column == "sd")
        agrees = audit.overlap_agrees(dataclasses.replace(overlap, **{column: value}), of)
        assert agrees != differs


def test_the_overlap_of_heads_is_not_that_of_super_survivors():
    assert not audit.overlap_agrees(reported_overlap("heads"), "super")
    assert not audit.overlap_agrees(reported_overlap("super heads"))


def test_overlaps_are_those_of_the_masks_seed_by_seed(found):
    few = {task: found["structured"][task] for task in ("cola", "rte")}
    for part in ("heads", "mlps"):
        overlap = audit.overlaps(few, part)
        masks = [[getattr(k, part).ravel() for k in seeds.values()] for seeds in few.values()]
        shared = [(a & b).sum() for a, b in zip(*masks, strict=True)]
        assert overlap.mean[0, 1] == overlap.mean[1, 0] == pytest.approx(np.mean(shared))
        assert overlap.sd[0, 1] == pytest.approx(np.std(shared, ddof=1))
    together = [np.all([k.heads for k in seeds.values()], axis=0) for seeds in few.values()]
    overlap = audit.overlaps(few, "heads", "super")
    assert overlap.mean[0, 1] == (together[0] & together[1]).sum()
    assert overlap.chance[0, 1] == pytest.approx(together[0].sum() * together[1].sum() / 144)


# The list


def test_the_list_counts_what_is_equal():
    text = audit.describe_audit({"sizes": np.bool_(True), "kappa": False, "overlap": True})
    assert text.startswith("2 of 3 comparisons give the known values.")
    assert "* sizes: **equal**\n* kappa: **different**\n* overlap: **equal**" in text


def test_tasks_above_chance_are_counted_by_part():
    heads, mlps = (
        pd.DataFrame({"overlap_p": np.array(p, dtype=object)})
        for p in ([0.0005, 0.049, 0.05], [0.9, 0.04, 1.0])
    )
    told = audit.describe_sharing(heads, mlps)
    assert told.endswith("heads on 2 of 3 tasks and MLPs on 1 of 3 tasks.")


# The authors' own masks


@pytest.fixture(scope="module")
def opened(authors_dir, tmp_path_factory):
    """The authors' subnetworks, found jointly, as the audit opens them."""
    root = tmp_path_factory.mktemp("imported")
    import_masks(authors_dir, RunStore(root))
    return audit.open_audit({"run_store": str(root)})["structured"]


def test_every_comparison_of_the_authors_masks_comes_out_equal(opened):
    for table in (
        audit.sizes_beside(opened),
        audit.stability_beside(opened, "heads"),
        audit.stability_beside(opened, "mlps"),
        audit.super_beside(opened),
    ):
        assert agreeing(table) == TITLES
    assert audit.overlap_agrees(audit.overlaps(opened, "heads"))
    assert audit.overlap_agrees(audit.overlaps(opened, "mlps"))
    assert audit.overlap_agrees(audit.overlaps(opened, "heads", "super"), "super")
    with pytest.raises(LotteryError, match=r"super mlps.*super heads"):  # nothing is reported
        audit.overlap_agrees(audit.overlaps(opened, "mlps", "super"), "super")


@pytest.mark.parametrize("task", ["mnli", "wnli"])
def test_one_head_in_the_place_of_another_is_told_of_exactly_its_task(opened, task):
    seed = 86 if task == "mnli" else 42
    others = [title for title in TITLES if title != TASKS[task].title]

    def swap(kept):
        if kept.heads.any():
            with_another_head(kept)
        else:  # nothing survives: one head more
            kept.heads[3, 4] = True

    good = altered(opened, task, seed, swap)
    assert agreeing(audit.stability_beside(good, "heads")) == others
    assert agreeing(audit.stability_beside(good, "mlps")) == TITLES
    shared = task_overlap({name: list(seeds.values()) for name, seeds in good.items()}, "heads", 1)
    assert not audit.overlap_agrees(shared)
    assert audit.overlap_agrees(audit.overlaps(good, "mlps"))


def test_masks_of_another_encoder_are_no_part_of_this_audit():
    small = StructuredSubnetwork(np.ones((6, 12), dtype=bool), np.ones(6, dtype=bool))
    whole = StructuredSubnetwork(np.ones((12, 12), dtype=bool), np.ones(12, dtype=bool))
    audit.check_auditable([whole])
    with pytest.raises(LotteryError, match="6 layers of 12 heads; the audit is of BERT-base"):
        audit.check_auditable([whole, small])
