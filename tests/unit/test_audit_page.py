"""The words and tables of the audit's page: whole sentences on made-up numbers."""

import numpy as np
import pandas as pd

from lotterylib.report import audit_page
from lotterylib.subnetworks import StructuredSubnetwork

SOME = StructuredSubnetwork(np.ones((12, 12), dtype=bool), np.ones(12, dtype=bool))


def test_which_families_were_imported_is_counted():
    found = {
        "structured": {"cola": {1: SOME, 2: SOME}, "rte": {1: SOME, 2: SOME}},
        "heads": {"cola": {1: SOME, 2: SOME, 3: SOME}},
        "bad": {"rte": {1: SOME, 2: SOME}},
    }
    assert audit_page.describe_families(found) == (
        "Imported were:\n\n"
        "* heads and MLPs together: 2 tasks, 2 seeds\n"
        "* heads alone: 1 task, 3 seeds\n"
        "* bad heads and MLPs: 1 task, 2 seeds\n\n"
        "Not imported: MLPs alone, random heads and MLPs, super-survivors, random beside "
        "super-survivors, bad beside super-survivors."
    )
    whole = audit_page.describe_families({name: found["bad"] for name in audit_page.FAMILIES})
    assert whole.endswith("* bad beside super-survivors: 1 task, 2 seeds\n\nNothing is lacking.")


def test_the_list_counts_what_is_equal():
    text = audit_page.describe_audit({"sizes": np.bool_(True), "kappa": False, "overlap": True})
    assert text == (
        "2 of 3 comparisons give the known values.\n\n"
        "* sizes: **equal**\n* kappa: **different**\n* overlap: **equal**"
    )


def test_tasks_above_chance_are_counted_where_the_test_could_tell():
    heads, mlps, none = (
        pd.DataFrame({"overlap_p": np.array(p), "overlap_p_least": np.array(least)}, dtype=object)
        for p, least in (
            ([0.0005, 0.049, 0.05], [0.0005, 0.0005, 0.0005]),
            # the third has a small p-value by luck of the draw, but could have had no smaller one
            ([0.9, 0.04, 0.06, 0.005, 1.0], [0.0005, 0.01, 0.06, 0.0005, 0.34]),
            ([1.0], [1.0]),
        )
    )
    told = audit_page.describe_sharing({"heads": heads, "MLPs": mlps, "few": none})
    assert told == (
        "By a permutation test at the 5% level, the seeds share more than their sizes explain: "
        "heads on 2 of 3 tasks (1 after Holm); MLPs on 2 of 3 tasks (1 after Holm), and on 2 the "
        "test has no way to tell; few on 0 of 0 tasks (0 after Holm), and on 1 the test has no way "
        "to tell."
    )


def kept(heads, mlps):
    return StructuredSubnetwork((np.arange(144) < heads).reshape(12, 12), np.arange(12) < mlps)


def test_how_much_of_the_good_is_in_the_bad_is_measured_or_forced():
    good = {
        "cola": {1: kept(144, 12), 2: kept(144, 12)},
        "rte": {1: kept(0, 8), 2: kept(0, 8)},
        "wnli": {1: kept(0, 0), 2: kept(0, 0)},
    }
    told = audit_page.describe_bad({"structured": good})
    assert told == (
        "By the sizes alone, 50% to 100% of a bad subnetwork, by parameters, are in the good one "
        "too, and more than half on 1 of 2 tasks (WNLI left out)."
    )
    bad = {"cola": good["cola"], "rte": {1: kept(0, 6), 2: kept(0, 8)}}
    told = audit_page.describe_bad({"structured": good, "bad": bad})
    assert told.startswith("In the released masks, 100% to 100% of a bad subnetwork")
    only = {"structured": {"wnli": good["wnli"]}}
    assert audit_page.describe_bad(only) == "There is no task but WNLI to tell it of."


def test_a_table_has_its_columns_in_order_and_no_nan():
    table = pd.DataFrame(
        {"cochran_p": [0.0002, 1e-9], "kappa": [0.5, np.nan], "agrees": [True, False]},
        index=["cola", "Some Task"],
    )
    assert audit_page.markdown(table, audit_page.KAPPA) == (
        "| task | as known | kappa | p of Q |\n|---|---|---|---|\n"
        "| CoLA | yes | 0.5000 | 0.0002 |\n"
        "| Some Task | no | \N{EN DASH} | below 0.0001 |"
    )
