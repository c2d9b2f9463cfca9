"""The audit: it says equal where masks give what is reported, and different where one is altered.

Made-up masks have the reported sizes and super-survivors; all that hangs on which heads survive
needs the authors' own, through LOTTERY_AUTHORS_DIR. That is the one place where their masks are
compared with the paper's tables.
"""

import dataclasses
import functools

import numpy as np
import pandas as pd
import pytest

from lotterylib.agreement import agreement, least_overlap_p, stability_table, stack
from lotterylib.errors import LotteryError
from lotterylib.overlap import TaskOverlap
from lotterylib.report import audit, audit_tables, paper
from lotterylib.report.imported import BERT_BASE, FAMILIES, import_masks
from lotterylib.runs.store import RunStore
from lotterylib.subnetworks import StructuredSubnetwork, bad_like
from lotterylib.super_survivors import super_survivors
from lotterylib.tasks import TASKS

pytestmark = pytest.mark.usefixtures("no_commit")
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


def reported(method, task, kind="good"):
    table = paper.sizes().query("method == @method and subnetwork == @kind and task == @task")
    return table.set_index("seed").loc[SEEDS]


def subnetworks(heads, mlps):
    """By seed, from a mask of 144 heads and one of 12 MLPs each; the heads go round the layers, so
    that few layers are empty.
    """
    return {
        seed: StructuredSubnetwork(head.reshape(12, 12).T.copy(), mlp)
        for seed, head, mlp in zip(SEEDS, heads, mlps, strict=False)
    }


@pytest.fixture(scope="module")
def found():
    """By family and task: masks of the reported sizes, with the reported super-survivors."""
    masks = {name: {} for name in FAMILIES}
    everything = {"heads": [np.ones(144, dtype=bool)] * 5, "mlps": [np.ones(12, dtype=bool)] * 5}
    for task in GLUE:
        theirs, together = reported("structured", task), reported("super", task)
        shared = {part: together[part].iloc[0] for part in ("heads", "mlps")}
        good = subnetworks(
            deal(theirs["heads"], shared["heads"], 144), deal(theirs["mlps"], shared["mlps"], 12)
        )
        masks["structured"][task] = good
        for part, items in (("heads", 144), ("mlps", 12)):
            alone = deal(reported(part, task)[part], 0, items)
            masks[part][task] = subnetworks(**{**everything, part: alone})
        drawn = reported("structured", task, "random")
        masks["random"][task] = subnetworks(
            deal(drawn["heads"], 0, 144), deal(drawn["mlps"], 0, 12)
        )
        masks["bad"][task] = {seed: bad_like(kept, seed) for seed, kept in good.items()}
        masks["super"][task] = dict.fromkeys(SEEDS, super_survivors(list(good.values())))
        for name in ("super-random", "super-bad"):
            beside = deal([shared["heads"]] * 5, 0, 144), deal([shared["mlps"]] * 5, 0, 12)
            masks[name][task] = subnetworks(*beside)
    return masks


def imported(root, masks):
    """Write masks in the authors' layout, import them, and open what was imported."""
    for name, tasks in masks.items():
        family = FAMILIES[name]
        for task, seeds in tasks.items():
            for seed, kept in seeds.items():
                folder = root / "masks" / family.folder / TASKS[task].tsv_folder / f"seed_{seed}"
                folder.mkdir(parents=True)
                for part in family.parts:
                    mask = getattr(kept, part).astype(float)
                    np.save(folder / f"{part[:-1]}_mask.npy", mask)
    import_masks(root, RunStore(root / "runs"))
    return audit.open_audit(parameters(root))


def parameters(root):
    places = {"run_store": "runs", "pages": "pages", "variants": "variants"}
    return {name: str(root / folder) for name, folder in places.items()}


def few(masks, *tasks, seeds=SEEDS):
    """The masks of these tasks and seeds alone."""
    return {
        name: {task: {seed: of[task][seed] for seed in seeds} for task in tasks}
        for name, of in masks.items()
    }


def altered(good, task, seed, part, taken=None, given=None):
    """The subnetworks without one head, or MLP, of one of them: the first, or the first of those
    that may be taken; with another in its place if some may be given.
    """
    kept = good[task][seed]
    mask = getattr(kept, part).copy()
    gone = np.argwhere(mask if taken is None else mask & taken)[0]
    if given is not None:
        mask[tuple(np.argwhere(~mask & given)[-1])] = True
    mask[tuple(gone)] = False
    return {**good, task: {**good[task], seed: dataclasses.replace(kept, **{part: mask})}}


def agreeing(table):
    return [title for title, agrees in table["agrees"].items() if agrees]


# Opening


def test_what_was_imported_is_opened_in_the_order_of_the_tasks(found, tmp_path):
    some = few(found, "rte", "cola", seeds=(1337, 42))
    opened = imported(tmp_path, some)
    assert opened == some
    assert list(opened) == list(FAMILIES)
    assert all(list(tasks) == ["cola", "rte"] for tasks in opened.values())
    assert audit.searches(opened) == ["structured", "heads", "mlps"]
    assert audit.searches(["mlps", "bad", "heads"]) == ["heads", "mlps"]


@pytest.mark.parametrize(
    ("family", "other", "whole"), [("heads", "mlps", 12), ("mlps", "heads", 144)]
)
def test_a_single_search_is_enough(found, tmp_path, family, other, whole):
    alone = imported(tmp_path, {family: few(found, "rte")[family]})
    check = f"heads, MLPs and printed share: {FAMILIES[family].title}"
    assert audit.checks(alone) == {check: True}
    audit_tables.save_audit(alone, tmp_path)
    (row,) = pd.read_csv(tmp_path / "audit.csv").to_dict("records")
    masks = stack(list(alone[family]["rte"].values()), family)
    assert row[f"{family}_kappa"] == agreement(masks).kappa
    assert np.isnan(row[f"{other}_kappa"])
    assert row[other] == whole


def test_what_cannot_be_audited_is_refused(found, tmp_path):
    rte, one_seed = few(found, "rte"), few(found, "rte", seeds=(42,))
    drawn = {name: rte[name] for name in ("random", "bad", "super")}
    with pytest.raises(LotteryError, match=r"no imported masks that a search.*import-masks.*\.$"):
        imported(tmp_path / "drawn", drawn)
    with pytest.raises(LotteryError, match="at least two seeds of every task"):
        imported(tmp_path / "few", {"structured": rte["structured"], "bad": one_seed["bad"]})
    with pytest.raises(LotteryError, match=r"Unknown parameter 'run_stor'\. Did you mean 'run_st"):
        audit.open_audit(parameters(tmp_path) | {"run_stor": "elsewhere"})


# Sizes


def test_sizes_are_told_by_both_counts_of_layers_without_heads(found):
    table = audit.sizes_beside(found["structured"])
    assert list(table.index) == TITLES
    heads = reported("structured", "rte")["heads"]
    assert table.loc["RTE", "heads"] == ", ".join(map(str, heads))
    for task in GLUE:
        kept = found["structured"][task].values()
        row = table.loc[TASKS[task].title]
        assert row["encoder"] == pytest.approx(np.mean([k.density(BERT_BASE) for k in kept]))
        assert row["printed (authors)"] == pytest.approx(row["reported"], abs=5.1e-5)
        lost = np.mean([(~k.heads.any(1)).sum() for k in kept]) * 768
        bare, whole = row["encoder (authors)"], row["printed (authors)"]
        assert row["encoder"] - bare == pytest.approx(lost / 85_017_600, abs=1e-12)
        assert row["printed"] - whole == pytest.approx(lost / 109_483_778, abs=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_masks_of_the_reported_sizes_agree_and_no_others(found, family):
    assert agreeing(audit.sizes_beside(found[family], family)) == TITLES
    if family not in ("structured", "bad"):  # bad ones have just the sizes of the good
        assert len(agreeing(audit.sizes_beside(found[family], "structured"))) < len(GLUE) / 2


@pytest.mark.parametrize(
    ("family", "part"), [("structured", "heads"), ("structured", "mlps"), ("bad", "heads")]
)
def test_each_part_is_compared_seed_by_seed(found, family, part):
    """Two seeds of RTE with different numbers of heads and MLPs, one of these exchanged."""
    seeds = dict(found[family]["rte"])
    one, other = (seeds[seed] for seed in (1337, 86))
    assert getattr(one, part).sum() != getattr(other, part).sum()
    seeds[1337], seeds[86] = (
        dataclasses.replace(kept, **{part: getattr(given, part)})
        for kept, given in ((one, other), (other, one))
    )
    table = audit.sizes_beside({**found[family], "rte": seeds}, family)
    assert agreeing(table) == [title for title in TITLES if title != "RTE"]


@pytest.mark.parametrize("part", ["heads", "mlps"])
def test_super_survivors_agree_in_number_and_others_in_one_seed_are_told(found, part):
    assert agreeing(audit.super_beside(found["structured"])) == TITLES
    good = altered(found["structured"], "qnli", 71, part, given=True)
    assert agreeing(audit.sizes_beside(good)) == TITLES  # as many as before
    table = audit.super_beside(good)
    assert agreeing(table) == [title for title in TITLES if title != "QNLI"]
    name = audit.PART_NAMES[part]
    assert table.loc["QNLI", name] == table.loc["QNLI", f"{name} reported"] - 1
    assert audit.super_masks_agree(found)
    released = altered(found["super"], "qnli", 166, part, given=True)
    assert not audit.super_masks_agree({**found, "super": released})


# What is good in the bad


@pytest.mark.parametrize(
    ("kept", "items", "share"),
    [(72, 144, 0), (10, 144, 0), (73, 144, 2 / 73), (9, 12, 6 / 9), (12, 12, 1), (0, 12, np.nan)],
)
def test_the_share_that_size_forces(kept, items, share):
    sizes = {"heads": kept, "mlps": 0} if items == 144 else {"heads": 0, "mlps": kept}
    good = subnetworks(
        *(deal([sizes[part]], 0, full) for part, full in (("heads", 144), ("mlps", 12)))
    )
    row = audit_tables.sharing_table({"structured": {"rte": good}}).loc["rte"]
    title = "heads" if items == 144 else "MLPs"
    assert row[[f"forced {title}", "forced"]].tolist() == pytest.approx([share] * 2, nan_ok=True)


def test_bad_masks_hold_what_their_size_forces(found):
    table = audit_tables.sharing_table(found)
    assert list(table.index) == GLUE
    assert audit.bad_holds_no_more_good_than_it_must(found)
    good, bad = found["structured"]["rte"], found["bad"]["rte"]
    for part, title in audit.PART_NAMES.items():
        pairs = [(getattr(bad[seed], part), getattr(good[seed], part)) for seed in SEEDS]
        shares = [(one & other).sum() / one.sum() for one, other in pairs]
        assert table.loc["rte", f"found {title}"] == pytest.approx(np.mean(shares))
    whole = [bad[s].shared_share(good[s], BERT_BASE) for s in SEEDS]
    assert table.loc["rte", "found"] == pytest.approx(np.mean(whole))


def test_a_bad_mask_with_more_of_the_good_than_it_must_is_told(found):
    good = found["structured"]["sst2"][42].heads
    changed = {**found, "bad": altered(found["bad"], "sst2", 42, "heads", ~good, good)}
    assert agreeing(audit.sizes_beside(changed["bad"], "bad")) == TITLES
    assert not audit.bad_holds_no_more_good_than_it_must(changed)


# Everything as files


def test_every_number_stands_beside_the_page_in_full_precision(found, tmp_path):
    few_families = {name: found[name] for name in ("structured", "heads", "bad")}
    some = few(few_families, "sst2", "wnli")
    audit_tables.save_audit(some, tmp_path)
    whole, sizes, shared = (pd.read_csv(tmp_path / name) for name in audit_tables.TABLES)
    by = whole.set_index(["family", "task"])
    assert list(by.index) == [(name, task) for name in some for task in some[name]]
    kept = list(found["structured"]["sst2"].values())
    row = by.loc["structured", "sst2"]
    for part, fields in stability_table(kept).iterrows():
        names = ("kappa", "cochran_q", "cochran_p", "jaccard", "overlap", "chance", "overlap_p")
        for name in names:
            assert row[f"{part}_{name}"] == fields[name]
        assert row[f"{part}_overlap_p_least"] == least_overlap_p(stack(kept, part))
    assert row[["super_heads", "super_mlps", "seeds"]].tolist() == [19, 2, 5]
    assert by.loc["heads", "sst2"].filter(like="mlps_").isna().all()
    assert np.isnan(by.loc["structured", "wnli"]["mlps_kappa"])
    shares = by["share_of_good"].xs("sst2", level="task")
    assert shares["bad"] == audit_tables.sharing_table(some)["found"]["sst2"]
    assert shares.drop("bad").isna().all()

    one = sizes.set_index(["family", "task", "seed"]).loc["structured", "wnli", 42]
    assert one[["heads", "mlps", "empty_layers"]].tolist() == [0, 0, 12]
    assert one["encoder_authors"] == 0 < one["encoder"]
    assert len(sizes) == 3 * 2 * 5

    assert list(shared.groupby(["family", "kind", "part"], sort=False).size()) == [3] * 6
    pair = shared.set_index(["family", "kind", "part", "task", "other"])
    pair = pair.loc["structured", "good", "heads", "wnli", "sst2"]
    overlap = audit_tables.overlaps(some["structured"], "heads")
    for name in ("mean", "sd", "chance", "p"):
        assert pair[name] == getattr(overlap, name)[0, 1]


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
    some = {task: found["structured"][task] for task in ("cola", "rte", "wnli")}
    table = audit.stability_beside(some, part)
    assert agreeing(table) == ["CoLA", "RTE", "WNLI"]
    theirs = known_stability[known_stability["part"] == part].set_index("task")
    for name in ("cochran_q", "kappa", "cochran_p"):
        wanted = theirs[name].tolist()
        assert table[f"{name} known"].tolist() == pytest.approx(wanted, nan_ok=True)
    ours = stability_table(list(some["rte"].values())).loc[part]
    assert table.loc["RTE", list(ours.index)].to_dict() == pytest.approx(ours.to_dict())


@pytest.mark.parametrize("column", ["kappa", "cochran_q", "jaccard", "overlap", "cochran_p"])
def test_any_reported_value_that_differs_is_told(found, known_stability, monkeypatch, column):
    two = {task: found["structured"][task] for task in ("cola", "rte")}
    place = (known_stability["task"] == "rte") & (known_stability["part"] == "heads")
    other = known_stability.copy()
    other.loc[place, column] *= 1.01 if column == "overlap" else 1.002
    monkeypatch.setattr(paper, "stability", lambda: other)
    assert agreeing(audit.stability_beside(two, "heads")) == ["CoLA"]
    if column == "kappa":
        assert agreeing(audit.stability_beside(two, "mlps")) == ["CoLA", "RTE"]


# Overlap between tasks


def reported_overlap(name, tasks=tuple(GLUE)):
    """What the paper's table says, as if it had been computed."""
    table = paper.task_overlap(name).set_index(["task", "other"])
    mean, sd, chance = (
        table[column].unstack().loc[list(tasks), list(tasks)].to_numpy()
        for column in ("mean", "sd", "chance")
    )
    return TaskOverlap(
        "mlps" if name == "mlps" else "heads", tasks, mean, sd, chance, np.full_like(mean, np.nan)
    )


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


# All checks


def test_a_check_fails_with_what_it_is_about_and_no_other(found, monkeypatch):
    """One mask of one family altered; what hangs on the reported stability fails already."""
    some = few(found, "cola", "rte")
    once = functools.cache(functools.partial(audit.agreement_of, some["structured"]))
    monkeypatch.setattr(audit, "agreement_of", lambda _, part: once(part))
    asked = []
    monkeypatch.setattr(audit, "overlaps", lambda _, part, of="good": (part, of))
    monkeypatch.setattr(audit, "overlap_agrees", lambda pair, of="good": asked.append((*pair, of)))
    whole = audit.checks(some)
    assert [each[0] for each in asked] == ["heads", "mlps", "heads"]
    assert all(measured == wanted for _, measured, wanted in asked)
    held = {name for name, same in whole.items() if same}
    like = ("bad", "super-random", "super-bad")
    what = {False: "heads, MLPs and printed share", True: "numbers of heads and MLPs"}
    sizes = {name: f"{what[name in like]}: {FAMILIES[name].title}" for name in FAMILIES}
    supers = "released super-survivors: what all seeds keep"
    bad = "released bad masks: of the good no more than their size forces"
    assert held == {*sizes.values(), "how many heads and MLPs all seeds keep", supers, bad}
    assert set(whole) - held == {
        *(f"kappa, Cochran's Q and Jaccard of {part}" for part in ("heads", "MLPs")),
        *(f"overlap of {p}, with deviation and level of chance" for p in ("heads", "MLPs")),
        "overlap of super-survivors' heads",
    }
    for name in list(FAMILIES)[1:]:
        part = "mlps" if name == "mlps" else "heads"
        after = audit.checks({**some, name: altered(some[name], "cola", 42, part)})
        lost = held - {check for check, same in after.items() if same}
        assert lost == {sizes[name]} | {"super": {supers}, "bad": {bad}}.get(name, set())


# The authors' own masks


@pytest.fixture(scope="module")
def everything(authors_dir, tmp_path_factory):
    """All of the authors' families that there are, as the audit opens them."""
    root = tmp_path_factory.mktemp("imported")
    import_masks(authors_dir, RunStore(root / "runs"))
    return audit.open_audit(parameters(root))


def test_every_comparison_of_the_authors_masks_comes_out_equal(everything):
    checks = audit.checks(everything)
    assert [name for name, same in checks.items() if not same] == []
    assert len(checks) == len(everything) + 6 + ("super" in everything) + ("bad" in everything)
    shared = audit_tables.overlaps(everything["structured"], "mlps", "super")
    with pytest.raises(LotteryError, match=r"super mlps.*super heads"):  # nothing is reported
        audit.overlap_agrees(shared, "super")


def test_the_authors_heads_overlap_beyond_chance_and_their_mlps_only_on_cola(everything):
    good = everything["structured"]
    heads, mlps = (audit_tables.agreement_of(good, part) for part in ("heads", "mlps"))
    assert heads["overlap_p"].drop("wnli").tolist() == [1 / 2001] * 8
    assert list(mlps.index[mlps["overlap_p"] < 0.05]) == ["cola"]
    assert mlps["overlap_p_least"].drop("wnli").tolist() == [1 / 2001] * 8
    assert heads.loc["wnli", "overlap_p"] == heads.loc["wnli", "overlap_p_least"] == 1
