"""The audit: it says equal where masks give what is reported, and different where one is altered.

Made-up masks have the reported sizes and super-survivors; all that hangs on which heads survive
needs the authors' own, through LOTTERY_AUTHORS_DIR. That is the one place where their masks are
compared with the paper's tables.
"""

import dataclasses

import numpy as np
import pandas as pd
import pytest

import lotterylib.runs.store
from lotterylib.agreement import agreement, least_overlap_p, stability_table, stack
from lotterylib.errors import LotteryError
from lotterylib.overlap import TaskOverlap, task_overlap
from lotterylib.report import audit, audit_tables, paper
from lotterylib.report.imported import BERT_BASE, FAMILIES, import_masks
from lotterylib.runs.store import RunStore
from lotterylib.subnetworks import StructuredSubnetwork, bad_like
from lotterylib.super_survivors import super_survivors
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


def reported(method, task, kind="good"):
    table = paper.sizes().query("method == @method and subnetwork == @kind and task == @task")
    return table.set_index("seed").loc[SEEDS]


def subnetworks(heads, mlps):
    """By seed, from a mask of 144 heads and one of 12 MLPs each; the heads go round the layers, so
    that few layers are empty.
    """
    pairs = zip(heads, mlps, strict=True)
    return {
        seed: StructuredSubnetwork(head.reshape(12, 12).T.copy(), mlp)
        for seed, (head, mlp) in zip(SEEDS, pairs, strict=True)
    }


@pytest.fixture(scope="module")
def made_up():
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


@pytest.fixture(scope="module", autouse=True)
def _no_commit():
    """What the commit is does not matter here, and asking for it takes a process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lotterylib.runs.store, "_commit", lambda: "0123456789ab")
        yield


def imported(root, masks):
    """Write masks in the authors' layout, import them, and open what was imported."""
    for name, tasks in masks.items():
        family = FAMILIES[name]
        for task, seeds in tasks.items():
            for seed, kept in seeds.items():
                folder = root / "masks" / family.folder / TASKS[task].tsv_folder / f"seed_{seed}"
                folder.mkdir(parents=True)
                for file, part in (("head_mask.npy", kept.heads), ("mlp_mask.npy", kept.mlps)):
                    if file in family.files:
                        np.save(folder / file, part.astype(float))
    import_masks(root, RunStore(root / "runs"))
    return audit.open_audit(parameters(root))


def parameters(root):
    places = {"run_store": "runs", "pages": "pages", "variants": "variants"}
    return {name: str(root / folder) for name, folder in places.items()}


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


def with_another_mlp(kept):
    """As many MLPs, but not the same."""
    one, other = np.flatnonzero(kept.mlps)[0], np.flatnonzero(~kept.mlps)[-1]
    kept.mlps[one], kept.mlps[other] = False, True


def with_another_head(kept):
    """As many heads, but not the same."""
    one, other = np.argwhere(kept.heads)[0], np.argwhere(~kept.heads)[-1]
    kept.heads[tuple(one)], kept.heads[tuple(other)] = False, True


def agreeing(table):
    return [title for title, agrees in table["agrees"].items() if agrees]


# Opening


def test_what_was_imported_is_opened_in_the_order_of_the_tasks(found, made_up):
    assert list(found) == list(FAMILIES)
    assert found == made_up
    for tasks in found.values():
        assert list(tasks) == GLUE
    assert audit.searches(found) == ["structured", "heads", "mlps"]
    assert audit.searches(["mlps", "bad", "heads"]) == ["heads", "mlps"]


@pytest.mark.parametrize("family", ["heads", "mlps"])
def test_a_single_search_is_enough(made_up, tmp_path, family):
    alone = imported(tmp_path, {family: made_up[family]})
    assert alone == {family: made_up[family]}
    (check,) = audit.checks(alone).items()
    assert check == (f"heads, MLPs and printed share: {FAMILIES[family].title}", True)
    audit_tables.save_audit({family: {"rte": alone[family]["rte"]}}, tmp_path)
    (row,) = pd.read_csv(tmp_path / "audit.csv").to_dict("records")
    other = "mlps" if family == "heads" else "heads"
    assert (
        row[f"{family}_kappa"]
        == agreement(stack(list(alone[family]["rte"].values()), family)).kappa
    )
    assert np.isnan(row[f"{other}_kappa"])
    assert row[other] == (12 if other == "mlps" else 144)


def test_masks_that_no_search_found_are_not_enough(made_up, tmp_path):
    drawn = {name: {"rte": made_up[name]["rte"]} for name in ("random", "bad", "super")}
    with pytest.raises(
        LotteryError, match=r"holds no imported masks that a search found.*import-masks.*\.$"
    ):
        imported(tmp_path, drawn)


def test_one_seed_is_not_enough(made_up, tmp_path):
    masks = {
        "structured": {"rte": made_up["structured"]["rte"]},
        "bad": {"rte": made_up["bad"]["rte"]},
    }
    masks["bad"] = {"rte": {42: masks["bad"]["rte"][42]}}
    with pytest.raises(LotteryError, match="at least two seeds of every task"):
        imported(tmp_path, masks)


def test_a_misspelt_parameter_is_refused_before_anything_is_read(tmp_path):
    names = parameters(tmp_path) | {"run_stor": "elsewhere"}
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
        assert row["printed (authors)"] == pytest.approx(row["reported"], abs=5.1e-5)
        lost = np.mean([(~k.heads.any(1)).sum() for k in kept]) * 768
        bare, whole = row["encoder (authors)"], row["printed (authors)"]
        assert row["encoder"] - bare == pytest.approx(lost / 85_017_600, abs=1e-12)
        assert row["printed"] - whole == pytest.approx(lost / 109_483_778, abs=1e-12)


def test_both_counts_of_layers_without_heads():
    """WNLI keeps nothing in four of five seeds, so 48 biases of 768 go or stay."""
    empty = StructuredSubnetwork(np.zeros((12, 12), dtype=bool), np.zeros(12, dtype=bool))
    assert empty.density(BERT_BASE) == 12 * 768 / BERT_BASE.encoder_parameters
    assert audit_tables.without_empty_layers(empty)[0] == 0
    heads = StructuredSubnetwork(np.ones((12, 12), dtype=bool), np.zeros(12, dtype=bool))
    assert audit_tables.without_empty_layers(heads)[0] == heads.density(BERT_BASE)
    seeds = [empty] * 4 + [heads]
    assert round(np.mean([k.density(BERT_BASE) for k in seeds]), 6) == 0.066775
    assert round(np.mean([audit_tables.without_empty_layers(k)[0] for k in seeds]), 6) == 0.066688


@pytest.mark.parametrize("family", list(FAMILIES)[1:])
def test_so_do_those_of_every_family_and_no_other_would(found, family):
    assert agreeing(audit.sizes_beside(found[family], family)) == TITLES
    if family != "bad":  # bad ones have just the sizes of the good
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


def test_a_seed_that_the_paper_does_not_have_does_not_agree(found):
    seeds = found["structured"]["mnli"]
    renamed = {(7 if seed == 42 else seed): kept for seed, kept in seeds.items()}
    assert agreeing(audit.sizes_beside({"mnli": renamed})) == []
    assert agreeing(audit.sizes_beside({"mnli": seeds})) == ["MNLI"]


# Super-survivors


def test_super_survivors_of_the_reported_number_agree(found):
    table = audit.super_beside(found["structured"])
    assert agreeing(table) == TITLES
    assert (table["heads"] == table["heads reported"]).all()
    assert (table["MLPs"] == table["MLPs reported"]).all()
    assert table.loc["SST-2", ["heads", "MLPs"]].tolist() == [19, 2]
    printed = reported("super", "sst2")["printed_mean"].iloc[0]
    assert table.loc["SST-2", "printed"] == pytest.approx(printed, abs=5.1e-5)


@pytest.mark.parametrize(
    ("change", "part"), [(with_another_head, "heads"), (with_another_mlp, "MLPs")]
)
def test_others_in_one_seed_are_told_of_exactly_their_task(found, change, part):
    good = altered(found["structured"], "qnli", 71, change)
    assert agreeing(audit.sizes_beside(good)) == TITLES  # as many as before
    table = audit.super_beside(good)
    assert agreeing(table) == [title for title in TITLES if title != "QNLI"]
    assert table.loc["QNLI", part] == table.loc["QNLI", f"{part} reported"] - 1


@pytest.mark.parametrize("change", [with_another_head, with_another_mlp])
def test_released_super_survivors_must_be_those_of_the_good(found, change):
    assert audit.super_masks_agree(found)
    changed = altered(found["super"], "qnli", 166, change)
    assert not audit.super_masks_agree({**found, "super": changed})


# What is good in the bad


@pytest.mark.parametrize(
    ("kept", "items", "share"),
    [(72, 144, 0), (10, 144, 0), (73, 144, 2 / 73), (9, 12, 6 / 9), (12, 12, 1), (0, 12, np.nan)],
)
def test_the_share_that_size_forces(kept, items, share):
    assert audit_tables.forced_share(kept, items) == pytest.approx(share, nan_ok=True)


def test_bad_masks_hold_what_their_size_forces(found):
    table = audit_tables.sharing_table(found)
    assert list(table.index) == GLUE
    wanted = [0.77, 0.36, 0.60, 0.49, 0.33, 0.53, 0.54, 0.58, 1.0]
    assert table["forced"].round(2).tolist() == wanted
    assert audit.bad_holds_no_more_good_than_it_must(found)
    good, bad = found["structured"]["rte"], found["bad"]["rte"]
    shares = [(bad[s].heads & good[s].heads).sum() / bad[s].heads.sum() for s in SEEDS]
    assert table.loc["rte", "found heads"] == pytest.approx(np.mean(shares))
    shares = [(bad[s].mlps & good[s].mlps).sum() / bad[s].mlps.sum() for s in SEEDS]
    assert table.loc["rte", "found MLPs"] == pytest.approx(np.mean(shares))
    whole = [bad[s].shared_share(good[s], BERT_BASE) for s in SEEDS]
    assert table.loc["rte", "found"] == pytest.approx(np.mean(whole))


def test_a_bad_mask_with_more_of_the_good_than_it_must_is_told(found):
    def more(kept):
        """One head of the good in the place of one that is not."""
        good = found["structured"]["sst2"][42].heads
        kept.heads[tuple(np.argwhere(kept.heads & ~good)[0])] = False
        kept.heads[tuple(np.argwhere(~kept.heads & good)[0])] = True

    changed = {**found, "bad": altered(found["bad"], "sst2", 42, more)}
    assert agreeing(audit.sizes_beside(changed["bad"], "bad")) == TITLES
    assert not audit.bad_holds_no_more_good_than_it_must(changed)


# Everything as files


def test_every_number_stands_beside_the_page_in_full_precision(found, tmp_path):
    few = {
        name: {task: tasks[task] for task in ("sst2", "wnli")}
        for name, tasks in found.items()
        if name in ("structured", "heads", "bad")
    }
    audit_tables.save_audit(few, tmp_path)
    whole, sizes, shared = (pd.read_csv(tmp_path / name) for name in audit_tables.TABLES)
    by = whole.set_index(["family", "task"])
    assert list(by.index) == [(name, task) for name in few for task in few[name]]
    kept = list(found["structured"]["sst2"].values())
    row = by.loc["structured", "sst2"]
    for part, fields in stability_table(kept).iterrows():
        names = ("kappa", "cochran_q", "cochran_p", "jaccard", "overlap", "chance", "overlap_p")
        for name in names:
            assert row[f"{part}_{name}"] == fields[name]
        assert row[f"{part}_overlap_p_least"] == least_overlap_p(stack(kept, part))
    assert row[["super_heads", "super_mlps", "seeds"]].tolist() == [19, 2, 5]
    assert row["encoder"] == pytest.approx(np.mean([k.density(BERT_BASE) for k in kept]), rel=1e-15)
    assert by.loc["heads", "sst2"].filter(like="mlps_").isna().all()
    assert np.isnan(by.loc["structured", "wnli"]["mlps_kappa"])
    assert (
        by.loc["bad", "sst2"]["share_of_good"] == audit_tables.sharing_table(few)["found"]["sst2"]
    )
    assert np.isnan(row["share_of_good"])

    one = sizes.set_index(["family", "task", "seed"]).loc["structured", "wnli", 42]
    assert one[["heads", "mlps", "empty_layers"]].tolist() == [0, 0, 12]
    assert one["encoder_authors"] == 0 < one["encoder"]
    assert len(sizes) == 3 * 2 * 5

    assert list(shared.groupby(["family", "kind", "part"], sort=False).size()) == [3] * 6
    pair = shared.set_index(["family", "kind", "part", "task", "other"])
    pair = pair.loc["structured", "good", "heads", "wnli", "sst2"]
    overlap = audit_tables.overlaps(few["structured"], "heads")
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
        assert row["cochran_q known"] == pytest.approx(theirs["cochran_q"][task], nan_ok=True)
        assert row["kappa known"] == pytest.approx(theirs["kappa"][task], nan_ok=True)
        assert row["cochran_p known"] == pytest.approx(theirs["cochran_p"][task], nan_ok=True)


@pytest.mark.parametrize(
    ("column", "factor"),
    [
        ("kappa", 1.001),
        ("cochran_q", 1.001),
        ("jaccard", 1.001),
        ("overlap", 1.01),
        ("cochran_p", 1.002),
    ],
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


# All checks


def test_a_check_fails_with_what_it_is_about_and_no_other(found):
    """One mask of one family altered; what hangs on the reported stability fails already."""
    whole = audit.checks(found)
    held = {name for name, same in whole.items() if same}
    titles = {name: FAMILIES[name].title for name in FAMILIES}
    like = ("bad", "super-random", "super-bad")
    sizes = {
        name: f"{'numbers of heads and MLPs' if name in like else 'heads, MLPs and printed share'}"
        f": {titles[name]}"
        for name in FAMILIES
    }
    supers = "released super-survivors: what all seeds keep"
    bad = "released bad masks: of the good no more than their size forces"
    assert held == {*sizes.values(), "how many heads and MLPs all seeds keep", supers, bad}
    assert len(whole) == len(held) + 5
    for name in FAMILIES:
        if name == "structured":
            continue
        change = without_an_mlp if name == "mlps" else without_a_head
        after = audit.checks({**found, name: altered(found[name], "cola", 42, change)})
        lost = held - {check for check, same in after.items() if same}
        assert lost == {sizes[name]} | {"super": {supers}, "bad": {bad}}.get(name, set())


# The authors' own masks


@pytest.fixture(scope="module")
def everything(authors_dir, tmp_path_factory):
    """All of the authors' families that there are, as the audit opens them."""
    root = tmp_path_factory.mktemp("imported")
    import_masks(authors_dir, RunStore(root / "runs"))
    return audit.open_audit(parameters(root))


@pytest.fixture(scope="module")
def opened(everything):
    """The authors' subnetworks, found together."""
    return everything["structured"]


def test_every_comparison_of_the_authors_masks_comes_out_equal(everything):
    checks = audit.checks(everything)
    assert [name for name, same in checks.items() if not same] == []
    assert len(checks) == len(everything) + 6 + ("super" in everything) + ("bad" in everything)
    shared = audit_tables.overlaps(everything["structured"], "mlps", "super")
    with pytest.raises(LotteryError, match=r"super mlps.*super heads"):  # nothing is reported
        audit.overlap_agrees(shared, "super")


def test_the_authors_heads_overlap_beyond_chance_and_their_mlps_only_on_cola(opened):
    heads, mlps = (audit_tables.agreement_of(opened, part) for part in ("heads", "mlps"))
    assert heads["overlap_p"].drop("wnli").tolist() == [1 / 2001] * 8
    assert list(mlps.index[mlps["overlap_p"] < 0.05]) == ["cola"]
    assert mlps["overlap_p_least"].drop("wnli").tolist() == [1 / 2001] * 8
    assert heads.loc["wnli", "overlap_p"] == heads.loc["wnli", "overlap_p_least"] == 1


def test_the_authors_bad_masks_hold_as_much_good_as_their_sizes_force(everything):
    table = audit_tables.sharing_table(everything)
    wanted = {"cola": 0.77, "mrpc": 0.60, "rte": 0.58, "qnli": 0.54, "mnli": 0.53}
    wanted |= {"qqp": 0.49, "sst2": 0.36, "stsb": 0.33, "wnli": 1.0}
    assert table["forced"].round(2).to_dict() == wanted
    if "bad" in everything:
        assert table["found"].round(2).to_dict() == wanted


def test_the_authors_masks_alone_agree_as_they_do(everything):
    """What nobody has reported, kept so that it stays: of heads alone and of MLPs alone."""
    for family, kappas in {
        "heads": [0.2218, 0.1846, 0.3233, 0.2289, 0.3710, 0.3166, 0.2885, 0.1786, -0.0198],
        "mlps": [0.4340, -0.0069, 0.1111, 0.2534, 0.1919, 0.0670, 0.4978, -0.0227, np.nan],
    }.items():
        if family not in everything:
            pytest.skip(f"there is no masks/{FAMILIES[family].folder} in LOTTERY_AUTHORS_DIR")
        found = audit_tables.agreement_of(everything[family], family)
        assert found["kappa"].round(4).tolist() == pytest.approx(kappas, nan_ok=True)


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
    assert audit.overlap_agrees(audit_tables.overlaps(good, "mlps"))


def test_masks_of_another_encoder_are_no_part_of_this_audit():
    small = StructuredSubnetwork(np.ones((6, 12), dtype=bool), np.ones(6, dtype=bool))
    whole = StructuredSubnetwork(np.ones((12, 12), dtype=bool), np.ones(12, dtype=bool))
    audit.check_auditable([whole])
    with pytest.raises(LotteryError, match="6 layers of 12 heads; the audit is of BERT-base"):
        audit.check_auditable([whole, small])
