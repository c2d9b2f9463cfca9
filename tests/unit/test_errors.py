"""Messages for users."""

import pytest

from lotterylib.errors import LotteryError, reason_of, unknown

NAMES = ["cola", "sst2", "STS-B"]


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("cola2", " Did you mean 'cola'?"),
        ("SST-2", " Did you mean 'sst2'?"),
        ("sts-b", " Did you mean 'STS-B'?"),
        *((nothing_near, "") for nothing_near in ("", "weather", 17, None, "or a file")),
    ],
)
def test_the_nearest_accepted_name_is_suggested(given, hint):
    error = unknown("task", given, iter(NAMES), ", or a file")
    assert isinstance(error, LotteryError)
    assert isinstance(error, ValueError)
    told = f"Unknown task {given!r}.{hint} Accepted: cola, sst2, STS-B, or a file."
    assert str(error) == told


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
