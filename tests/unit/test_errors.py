"""Messages for users."""

import pytest

from lotterylib.errors import LotteryError, reason_of, unknown

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


def test_what_is_accepted_besides_is_told_and_never_suggested():
    assert str(unknown("task", "or a file", NAMES, ", or a file")) == (
        "Unknown task 'or a file'. Accepted: cola, sst2, STS-B, or a file."
    )


def raised(make):
    try:
        make()
    except Exception as error:
        return error
    return None


def test_a_reason_is_a_line():
    def nested():
        try:
            {}["CUDA error: out of memory\nCompile with this and that"]
        finally:
            raise RuntimeError("another thing failed then")

    def chained():
        try:
            nested()
        except RuntimeError as error:
            raise OSError("the disk is full") from error

    assert reason_of(LotteryError("While this was done:\n\nThat failed.\n")) == "That failed."
    assert reason_of(LotteryError("")) == "LotteryError"
    assert reason_of(ZeroDivisionError()) == "ZeroDivisionError"
    assert reason_of(RuntimeError("CUDA error: bad\nAdvice")) == "RuntimeError: CUDA error: bad"
    assert reason_of(raised(nested)).startswith("KeyError: 'CUDA error: out of memory")
    assert reason_of(raised(chained)) == "OSError: the disk is full"
