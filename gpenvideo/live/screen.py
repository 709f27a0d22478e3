"""Screen: the program that a window is. Pictures come on standard input; q, Escape or its button closes it.

A process of its own, since the wheels of OpenCV and PyAV bring a libxcb each: where PyAV was imported, the
windows of OpenCV hang for good. Here PyAV is not.
"""

from __future__ import annotations

import struct
import sys
import threading
from collections import deque

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["HEADER", "main"]

HEADER = struct.Struct("<II")  # width and height, then as many bytes of BGR
QUIT_KEYS = (27, ord("q"))
ATTENDED_MS = 10


def main() -> None:
    """Show the newest picture until the input ends or somebody has seen enough."""
    title = sys.argv[1]
    newest: deque[NDArray[np.uint8]] = deque(maxlen=1)
    reader = threading.Thread(target=_read, args=(newest,), daemon=True)
    reader.start()
    is_open = False
    while reader.is_alive() or newest:
        if newest:
            picture = newest.pop()
            if not is_open:
                cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
                cv2.resizeWindow(title, picture.shape[1], picture.shape[0])
                is_open = True
            cv2.imshow(title, picture)
        if not is_open:
            reader.join(ATTENDED_MS / 1000)
        elif cv2.waitKey(ATTENDED_MS) & 0xFF in QUIT_KEYS or not _is_there(title):
            return


def _is_there(title: str) -> bool:
    return bool(cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) >= 1)


def _read(newest: deque[NDArray[np.uint8]]) -> None:
    source = sys.stdin.buffer
    while len(header := source.read(HEADER.size)) == HEADER.size:
        width, height = HEADER.unpack(header)
        data = source.read(width * height * 3)
        if len(data) < width * height * 3:
            return
        newest.append(np.frombuffer(data, np.uint8).reshape(height, width, 3))


if __name__ == "__main__":
    main()
