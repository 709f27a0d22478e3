"""Channel: the restored pictures of one session and those who watch it; each way of coding is done once."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from gpenvideo.live.pushed import Pushed
from gpenvideo.live.session import LiveSession, Shown
from gpenvideo.live.web.coding import Coded, Coder, Coding

__all__ = ["Channel", "Viewer"]

log = logging.getLogger(__name__)

KEY_AGAIN_S = 1.0  # the least between two pictures that viewers who lost some are given to begin anew with
LEAST_SHARE, LESS, MORE = 0.15, 0.7, 1.25  # of the bit rate: where it ends, and how it goes down and up
LOSS, CLEAN = 0.05, 0.005  # of the packets: above it less is sent, below it more
HOLD_S = 4.0  # between two changes, each of which costs a whole picture


@dataclass(eq=False, slots=True)
class Viewer:
    """Who watches, and how."""

    coding: Coding
    pair: bool
    """Whether the source is wanted too, above the result."""

    deliver: Callable[[Coded], None]
    """Takes a coded picture; called in the channel's thread, it returns at once."""

    ended: Callable[[str], None]
    """Told when nothing more comes, and why; called in any thread."""

    needs_key: bool = field(default=True)
    """Whether only a picture that can be decoded by itself is of use."""

    share: float = field(default=1.0)
    """How much of the bit rate the way to it bears."""

    changed_s: float = field(default=0.0)

    def report(self, lost: float, now_s: float) -> None:
        """Take in which share of the packets was lost on the way."""
        if now_s - self.changed_s < HOLD_S:
            return
        wanted = self.share * LESS if lost > LOSS else self.share * MORE if lost < CLEAN else self.share
        wanted = min(1.0, max(LEAST_SHARE, wanted))
        if wanted != self.share:
            self.share, self.changed_s = wanted, now_s


class Channel:
    """Shows a session to its viewers, in a thread of its own.

    A frame that is still to be coded when the next one comes is dropped. All methods may be called from any
    thread.

    Args:
        session: whose frames they are; the page changes its settings.
    """

    def __init__(self, session: LiveSession) -> None:
        self.session = session
        self._lock = threading.Lock()
        self._viewers: list[Viewer] = []
        self._shown: Pushed[Shown] = Pushed()
        self._end: str | None = None
        self._key_s: dict[tuple[Coding, bool], float] = {}
        self._thread = threading.Thread(target=self._run, name="gpenvideo-page", daemon=True)
        self._thread.start()

    def show(self, shown: Shown) -> None:
        """Show a frame; it returns at once."""
        self._shown.push(shown)

    def join(self, viewer: Viewer) -> None:
        """Begin to show it to a viewer."""
        with self._lock:
            if self._end is None:
                self._viewers.append(viewer)
                return
            reason = self._end
        viewer.ended(reason)

    def leave(self, viewer: Viewer) -> None:
        """Show it no more to a viewer."""
        with self._lock:
            if viewer in self._viewers:
                self._viewers.remove(viewer)

    @property
    def skipped(self) -> int:
        """Frames that were not sent since a newer one was there."""
        return self._shown.dropped

    @property
    def viewers(self) -> int:
        with self._lock:
            return len(self._viewers)

    def close(self, reason: str = "the stream has ended") -> None:
        """End it, tell the viewers why, and wait for the thread."""
        with self._lock:
            viewers, self._viewers = self._viewers, []
            self._end = self._end or reason
        self._shown.close()
        for viewer in viewers:
            viewer.ended(self._end)
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        coders: dict[tuple[Coding, bool], Coder] = {}
        try:
            for shown in self._shown:
                groups: dict[tuple[Coding, bool], list[Viewer]] = {}
                with self._lock:
                    for viewer in self._viewers:
                        groups.setdefault((viewer.coding, viewer.pair), []).append(viewer)
                coders = {way: coders.get(way) or Coder(*way) for way in groups}
                for way, viewers in groups.items():
                    self._send(coders[way], viewers, shown)
        except Exception:
            log.exception("pictures cannot be coded")
            self.close("the server failed to code the picture")

    def _send(self, coder: Coder, viewers: list[Viewer], shown: Shown) -> None:
        way, now_s = (coder.coding, coder.pair), time.monotonic()
        coder.share = min(viewer.share for viewer in viewers)
        key = any(viewer.needs_key for viewer in viewers) and now_s - self._key_s.get(way, 0.0) >= KEY_AGAIN_S
        coded = coder(shown, key=key)
        if coded is None:
            return
        if coded.key:
            self._key_s[way] = now_s
        for viewer in viewers:
            if coded.key or not viewer.needs_key:
                viewer.needs_key = False
                viewer.deliver(coded)
