"""How a run that somebody ends does so; imported before anything that takes long to import."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM)
"""The signals that end a run."""


class Stopped(KeyboardInterrupt):
    """Somebody ended the run; `status` is the exit status that tells of it."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__()
        self.status = 128 + number


class _Stop:
    """Handles the signals that end a run: raises at the first, and ignores the others."""

    asked = 0

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if not self.asked:
            self.asked = number
            raise Stopped(number)


@contextmanager
def stoppable() -> Iterator[None]:
    """Within it, SIGTERM ends what is done as Ctrl-C does: with `Stopped` at the first signal, also
    if that was taken for another error on its way. Later ones are ignored until the process ends.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stop = _Stop()
    before = {each: signal.signal(each, stop) for each in ENDING}
    try:
        yield
    except Exception:
        raise_if_stopped()
        raise
    else:
        raise_if_stopped()
    finally:
        for each, handler in before.items():
            signal.signal(each, signal.SIG_IGN if stop.asked else handler)


def raise_if_stopped() -> None:
    """Raise `Stopped` again if it has been raised: libraries in C may take it for another error."""
    stop = signal.getsignal(signal.SIGINT)
    if isinstance(stop, _Stop) and stop.asked:
        raise Stopped(stop.asked)
