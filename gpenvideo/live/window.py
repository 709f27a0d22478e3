"""Window: what is shown, on the screen of this machine."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np

from gpenvideo.errors import DeviceError
from gpenvideo.live import screen
from gpenvideo.live.picture import pixels

if TYPE_CHECKING:
    from gpenvideo.live.session import Shown

__all__ = ["Window"]

CLOSING_S = 2.0


class Window:
    """A window of OpenCV's, in a process of its own (see `live.screen`). q, Escape or its button closes it.

    Raises:
        DeviceError: there is no display, or no window can be opened on it; the latter by `write`.
    """

    def __init__(self, title: str = "gpenvideo") -> None:
        if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise DeviceError("there is no display for a window here: say --web for a page, or --out")
        self._process = subprocess.Popen(
            [sys.executable, "-P", screen.__file__, title],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # Qt misses its fonts there, which no window needs
        )

    def __str__(self) -> str:
        return "window"

    @property
    def is_closed(self) -> bool:
        """Whether somebody closed it."""
        return self._process.poll() == 0

    def write(self, shown: Shown) -> None:
        """Show a frame; nothing happens once it is closed."""
        assert self._process.stdin is not None
        if self._process.stdin.closed:
            return
        picture = pixels(shown.frame)
        try:
            self._process.stdin.write(screen.HEADER.pack(picture.shape[1], picture.shape[0]))
            self._process.stdin.write(np.ascontiguousarray(picture[..., ::-1]).data)
            self._process.stdin.flush()
        except OSError as error:
            if self._process.wait() != 0:
                raise DeviceError("no window could be opened here: say --web for a page") from error

    def close(self) -> None:
        """Close it."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(CLOSING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
