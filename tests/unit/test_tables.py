"""Tables for readers: nothing of how a program keeps numbers is left in them."""

import numpy as np
import pandas as pd

from lotterylib.report.tables import readable


def test_a_readable_table_has_no_nan_and_no_raw_floats():
    table = pd.DataFrame(
        {
            "kappa": [0.23731, np.nan, -0.00004],
            "pairs": [3.0, np.nan, 0.0],
            "gap": [-42.33333, 8.0, 0.0],
            "p": [1.0, 0.00004, 0.0125],
            "seeds": [3, 2, 2],
            "part": ["heads", None, "MLPs"],
        },
        index=["a", "b", "c"],
    )
    shown = readable(table)
    assert shown.to_dict("list") == {
        "kappa": ["0.237", "–", "0.000"],  # noqa: RUF001
        "pairs": ["3", "–", "0"],  # noqa: RUF001
        "gap": ["-42.3", "8.0", "0.0"],
        "p": ["1.000", "<0.001", "0.013"],
        "seeds": [3, 2, 2],
        "part": ["heads", "–", "MLPs"],  # noqa: RUF001
    }
    assert list(shown.index) == ["a", "b", "c"]
    assert table["kappa"].isna().sum() == 1  # the table itself stays


def test_columns_of_one_name_are_each_kept():
    table = pd.DataFrame([[0.5, 20.5]], columns=["mean", "mean"])
    assert readable(table).to_numpy().tolist() == [["0.500", "20.5"]]
