"""Relay: a program that sends to a server what comes as FLV on standard input, packet by packet.

A process of its own, since PyAV opens a connection to write to with the whole interpreter held and without a
time-out: a server that says nothing would stop all else.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import av

__all__ = ["main"]

QUICK = {"analyzeduration": "200000"}
STUCK_S = 10


def main() -> None:
    """Send until the input ends; why not is said on standard error, in a line."""
    target, form = sys.argv[1:]
    alarm: Any = getattr(signal, "alarm", lambda _: None)  # Windows has none
    try:
        with (
            os.fdopen(0, "rb", buffering=0) as pipe,
            av.open(pipe, "r", format="flv", options=QUICK) as source,
            av.open(target, "w", format=form) as out,
        ):
            sent: Any = out.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = sent
                    alarm(STUCK_S)  # ends this process if the server hangs, whoever else is still there
                    out.mux(packet)
                    alarm(0)
    except (av.FFmpegError, OSError, ValueError, IndexError) as error:
        sys.stderr.write(str(getattr(error, "strerror", None) or error).splitlines()[0].lower())
        sys.exit(1)


if __name__ == "__main__":
    main()
