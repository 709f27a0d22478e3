"""Interrupts: Ctrl-C and its kin end a run as an exception, so that what is half written is removed."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

__all__ = ["Interrupted", "interruptible", "leave"]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
CLEANING_S = 1.0  # in which a second Ctrl-C is not heeded, for it would interrupt the cleaning up


class Interrupted(SystemExit):
    """A signal asked for the end; `code` is 128 and its number, as shells have it."""

    code: int


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise `Interrupted` in the main thread where SIGINT, SIGTERM or SIGHUP comes."""
    last = -CLEANING_S

    def stop(number: int, _: object) -> None:
        nonlocal last
        if time.monotonic() - last > CLEANING_S:
            last = time.monotonic()
            raise Interrupted(128 + number)

    before = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_DFL)  # no traceback out of Python's own end


def leave(code: int) -> NoReturn:
    """Exit at once: a thread inside a network's call can neither be stopped nor outlive the interpreter."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)
