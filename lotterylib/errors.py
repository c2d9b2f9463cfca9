"""What a user sees when something asked for cannot be done: one sentence, exit status 2."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class LotteryError(ValueError):
    """A request that cannot be met; its message is a whole sentence meant for the user."""


def unknown(kind: str, given: object, accepted: Iterable[str], also: str = "") -> LotteryError:
    """The error for a name that is not in a table, naming the nearest accepted one.

    Args:
        kind: what the name stands for, such as "task".
        given: what the user wrote.
        accepted: the names that would have been right, in the order in which to list them.
        also: what else is accepted, in words that continue the list; it is never suggested.
    """
    names = list(accepted)
    near = [name.lower() for name in names if given and name.lower().startswith(str(given).lower())]
    near += get_close_matches(str(given).lower(), [name.lower() for name in names], n=1, cutoff=0.5)
    hint = next(
        (f" Did you mean {name!r}?" for name in names if near and name.lower() == near[0]), ""
    )
    return LotteryError(f"Unknown {kind} {given!r}.{hint} Accepted: {', '.join(names)}{also}.")


def line_of(error: BaseException, last: bool = False) -> str:
    """The first line of what an error says, or the last; its type's name if it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1 if last else 0]


def reason_of(error: BaseException) -> str:
    """What went wrong, in a line.

    Messages of our own end with it. Others begin with it, and those of CUDA end with advice; what
    is raised while something else is dealt with may say nothing of what that was.
    """
    if isinstance(error, LotteryError):
        return line_of(error, last=True)
    first: BaseException = error
    while first.__context__ is not None and not first.__suppress_context__:
        first = first.__context__
    name, said = type(first).__name__, line_of(first)
    return said if said == name else f"{name}: {said}"
