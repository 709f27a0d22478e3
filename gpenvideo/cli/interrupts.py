"""Interrupts: Ctrl-C and its kin end a run as an exception, so that what is half written is removed."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

__all__ = ["Asked", "Interrupted", "interruptible", "leave"]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
AGAIN_S = 3.0  # after which it is raised again, for a library may have swallowed it


class Interrupted(SystemExit):
    """A signal asked for the end."""


@dataclass
class Asked:
    """Whether a signal asked for the end."""

    code: int | None = None
    """The exit code then: 128 and the signal's number, as shells have it."""


@contextmanager
def interruptible() -> Iterator[Asked]:
    """Raise `Interrupted` in the main thread where SIGINT, SIGTERM or SIGHUP comes, once.

    Libraries may swallow it or make another error of it: what is yielded knows.
    """
    asked = Asked()

    def stop(number: int, _: object) -> None:
        if asked.code is None or number == signal.SIGALRM:
            asked.code = asked.code or 128 + number
            signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
            raise Interrupted(asked.code)

    before = {number: signal.signal(number, stop) for number in (*SIGNALS, signal.SIGALRM)}
    try:
        yield asked
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_DFL)  # no traceback out of Python's own end


def leave(code: int) -> NoReturn:
    """Exit at once: a thread inside a network's call can neither be stopped nor outlive the interpreter."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)
