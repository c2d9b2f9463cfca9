"""Messages for users."""

import pytest

from lotterylib.errors import LotteryError, unknown

NAMES = ["cola", "sst2", "STS-B"]


@pytest.mark.parametrize(
    ("given", "meant"), [("cola2", "cola"), ("SST-2", "sst2"), ("sts-b", "STS-B")]
)
def test_the_nearest_accepted_name_is_suggested(given, meant):
    error = unknown("task", given, NAMES)
    assert isinstance(error, LotteryError)
    assert isinstance(error, ValueError)
    assert str(error) == (
        f"Unknown task {given!r}. Did you mean {meant!r}? Accepted: cola, sst2, STS-B."
    )


@pytest.mark.parametrize("given", ["", "weather", 17, None])
def test_nothing_is_suggested_for_what_is_near_nothing(given):
    assert str(unknown("task", given, iter(NAMES))) == (
        f"Unknown task {given!r}. Accepted: cola, sst2, STS-B."
    )
