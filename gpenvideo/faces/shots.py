"""Shots: where one ends and the next begins, seen on small pictures."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from gpenvideo.errors import OptionError

__all__ = ["CutDetector", "is_cut", "likeness"]

Luma = NDArray[np.uint8]

TILE_PX, SEARCH_PX = (12, 16), (6, 8)  # down, across, of pictures some 36 x 64 px
STILL = 4.0  # mean difference in levels below which nothing has happened
ALIKE = 0.72
MEMORY = 4  # a flash of three pictures, and the scene before it
FLASH_SHARE, FLASH_SLACK = 0.9, 8


class CutDetector:
    """Finds the first picture of each shot in a stream of small pictures.

    Args:
        look_ahead: pictures that a decision waits for, so that a flash is not taken for a cut. 0 is for live
            video: a flash then starts a shot, though its end starts no other.

    Raises:
        OptionError: a negative look-ahead.
    """

    def __init__(self, look_ahead: int = 3) -> None:
        if look_ahead < 0:
            raise OptionError(f"a look-ahead is 0 pictures or more, got {look_ahead}")
        self.look_ahead = look_ahead
        self._before: deque[Luma] = deque(maxlen=MEMORY)
        self._after: deque[Luma] = deque()

    def update(self, luma: Luma) -> list[bool]:
        """Take in the next picture, see `is_cut`.

        Returns:
            Whether a shot starts, for each picture that is now decided, oldest first: none, or the one of
            `look_ahead` calls ago. The first picture of all starts a shot.

        Raises:
            OptionError: a picture of another size than the one before, or another dtype.
        """
        last = self._after[-1] if self._after else self._before[-1] if self._before else luma
        if luma.shape != last.shape or luma.ndim != 2 or luma.dtype != np.uint8:
            raise OptionError(f"pictures are (H, W) uint8 of one size, got {luma.shape} {luma.dtype}")
        self._after.append(luma)
        return list(self._decided(self.look_ahead))

    def finish(self) -> list[bool]:
        """The stream is over: what is still to be decided, oldest first."""
        return list(self._decided(0))

    def _decided(self, waiting: int) -> Iterator[bool]:
        while len(self._after) > waiting:
            yield not self._before or is_cut(self._before, self._after)
            self._before.append(self._after.popleft())


def is_cut(before: Sequence[Luma], after: Sequence[Luma]) -> bool:
    """Whether a shot ends between `before[-1]` and `after[0]`.

    It does where the two are not alike, unless the pictures around them show that one is a flash (or a black
    picture): a picture like that before it comes back, and all between are brighter (or darker) throughout.

    Args:
        before, after: one or more pictures each, (H, W) uint8 of one size, some 36 x 64 px, in their order.
    """
    last, first = before[-1], after[0]
    if _alike(last, first):
        return False
    past, future = list(before), list(after)
    for i in range(len(past) - 1):
        if _alike(past[i], first) and all(_is_flash(past[i], flash) for flash in past[i + 1 :]):
            return False
    return not any(
        _alike(last, future[i]) and all(_is_flash(last, flash) for flash in future[:i])
        for i in range(1, len(future))
    )


def likeness(previous: Luma, picture: Luma) -> float:
    """How much of a picture is found in the one before: 1 is all, below 0.7 is another scene.

    The picture's tiles are looked for near their places in the one before, by normalised cross-correlation
    (Lewis, "Fast normalized cross-correlation", 1995): light and contrast do not matter, nor does motion of
    up to an eighth of the picture. The mean weighs them by their contrast.
    """
    down, across = SEARCH_PX
    field = cv2.copyMakeBorder(previous, down, down, across, across, cv2.BORDER_REPLICATE)
    height, width = (min(side, tile) for side, tile in zip(picture.shape, TILE_PX, strict=True))
    total = found = 0.0
    for y in range(0, picture.shape[0] - height + 1, height):
        for x in range(0, picture.shape[1] - width + 1, width):
            tile = picture[y : y + height, x : x + width]
            near = field[y : y + height + 2 * down, x : x + width + 2 * across]
            contrast = float(tile.std())
            weight = contrast + float(previous[y : y + height, x : x + width].std())
            total += weight
            if contrast > 1:
                found += weight * float(cv2.matchTemplate(near, tile, cv2.TM_CCOEFF_NORMED).max())
    return found / total if total > 0 else 1.0


def _alike(previous: Luma, picture: Luma) -> bool:
    return float(cv2.absdiff(previous, picture).mean()) < STILL or likeness(previous, picture) > ALIKE


def _is_flash(scene: Luma, flash: Luma) -> bool:
    """Whether light was added to the scene everywhere, or taken from it."""
    change = flash.astype(np.int16) - scene
    brighter, darker = (change > -FLASH_SLACK).mean(), (change < FLASH_SLACK).mean()
    return float(max(brighter, darker)) > FLASH_SHARE
