"""Shots: where one ends and the next begins, seen on small pictures.

A cut is a change that nothing but another scene explains: not light (a flash, a flickering film), not the
camera's motion, nor a dissolve. The peak against its neighbours is what PySceneDetect's adaptive detector
looks for, too; what the change is measured by, and what may explain it, is different here.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from gpenvideo.errors import OptionError

__all__ = ["CutDetector", "difference"]

Luma = NDArray[np.uint8]
Measure = Callable[[Luma, Luma], float]

GRAIN_PX, SPECK_PX = 0.8, 3  # what is smoothed away: grain, and scratches and dust
TILE_PX, SEARCH_PX = (12, 16), (6, 8)  # down, across, of pictures some 36 x 64 px
WIDE = 9 / 16  # how much of a picture's width must be seen again after a fast pan
STILL_LEVELS = 4.0  # difference below which nothing has happened: the mean, and the rms without the light
LIGHT_SHARE, LIGHT_LEVELS = 0.4, 6  # how much the mean may change with the light of one and the same scene
MOST_GAIN = 2.0  # how much the contrast may

MEMORY = 4  # a flash of three pictures, and the scene before it
LEAST, SURE, PEAK = 0.16, 0.38, 3.5  # a difference: of a cut; of no pan; against those around it
LEAST_LEVELS = 6  # a change in place: of a cut
LEAST_OF_JUMP, JUMP_LEVELS, JUMP = 0.02, 20, 2.0  # a change in place: its difference, levels, against others
AGAIN, AGAIN_SHARE, AGAIN_CHANGE = 0.2, 0.5, 0.4  # what is left of them where a scene comes back
OTHER, OTHER_SHARE = 0.3, 0.4  # the difference of another scene's single picture, and what is left of it
FLASH_SHARE, FLASH_SLACK, FLASH_LEVELS, FLASH_MOTION_PX = 0.95, 8, 4, (3, 5)
FLASH_DETAIL, FLASH_DETAIL_LEVELS = 1.5, 2.0
MIXED_SHARE, MIXED_DETAIL = 0.08, 0.15  # of the energy of the change, and of its detail: what is no mixture
LEAST_STEP, MOST_STEP = 0.03, 0.6  # of a dissolve, from one picture to the next


class CutDetector:
    """Finds the first picture of each shot in a stream of small pictures.

    Args:
        look_ahead: pictures that a decision waits for, so that flashes, dissolves and fast pans are not taken
            for cuts. 0 is for live video: a flash then starts a shot, though its end starts no other.

    Raises:
        OptionError: a negative look-ahead.
    """

    def __init__(self, look_ahead: int = 3) -> None:
        if look_ahead < 0:
            raise OptionError(f"a look-ahead is 0 pictures or more, got {look_ahead}")
        self.look_ahead = look_ahead
        self._before: deque[Luma] = deque(maxlen=MEMORY)
        self._after: deque[Luma] = deque()
        self._decided_so_far = 0
        self._known: dict[tuple[Measure, int, int], float] = {}

    def update(self, luma: Luma) -> list[bool]:
        """Take in the next picture, (H, W) uint8 of one size, some 36 x 64 px.

        Returns:
            Whether a shot starts, for each picture that is now decided, oldest first: none, or the one of
            `look_ahead` calls ago. The first picture of all starts a shot.

        Raises:
            OptionError: a picture of another size than the one before, or another dtype.
        """
        last = self._after[-1] if self._after else self._before[-1] if self._before else luma
        if luma.shape != last.shape or luma.ndim != 2 or luma.dtype != np.uint8:
            raise OptionError(f"pictures are (H, W) uint8 of one size, got {luma.shape} {luma.dtype}")
        self._after.append(_clean(luma))
        return list(self._decided(self.look_ahead))

    def finish(self) -> list[bool]:
        """The stream is over: what is still to be decided, oldest first."""
        return list(self._decided(0))

    def _decided(self, waiting: int) -> Iterator[bool]:
        while len(self._after) > waiting:
            start = self._decided_so_far - len(self._before)
            self._known = {key: value for key, value in self._known.items() if key[1] >= start}
            window = _Window([*self._before, *self._after], len(self._before), start, self._known)
            yield not self._before or window.is_cut()
            self._before.append(self._after.popleft())
            self._decided_so_far += 1


def difference(previous: Luma, picture: Luma) -> float:
    """How much of a picture is not found in the one before: 0 is none; above 0.4 it is another scene.

    Neither light nor motion counts. The picture's tiles are looked for near their places in the one before,
    and half of its width anywhere across it, by normalised cross-correlation (Lewis, "Fast normalized
    cross-correlation", 1995); the better of the two is taken.

    Args:
        previous, picture: (H, W) uint8 of one size, some 36 x 64 px.
    """
    if float(cv2.absdiff(previous, picture).mean()) < STILL_LEVELS:
        return 0.0
    if _is_same_light(previous, picture) and _change(previous, picture) < STILL_LEVELS:
        return 0.0
    apart = 1 - _found_near(previous, picture)
    if apart < LEAST:
        return apart
    return min(apart, _apart_wide(previous, picture))


@dataclass(slots=True)
class _Window:
    """The pictures around a place that may be a cut, in their order."""

    pictures: list[Luma]
    at: int
    """The first picture after the place."""

    start: int
    """The number of the first of the pictures in the stream."""

    known: dict[tuple[Measure, int, int], float]
    """Of pairs of pictures, by their numbers in the stream; what is found out is added."""

    ends: list[tuple[int, int]] = field(init=False)
    """Pairs of pictures, one before and one after the place with others between them, the nearest first."""

    def __post_init__(self) -> None:
        before, after = range(self.at - 1, -1, -1), range(self.at, len(self.pictures))
        self.ends = [(i, j) for i in before for j in after if j - i > 1]

    def is_cut(self) -> bool:
        apart, change = self.apart(self.at - 1, self.at), self.change(self.at - 1, self.at)
        if apart < LEAST_OF_JUMP or change < LEAST_LEVELS:
            return False
        if not self.is_jump() and (apart < LEAST or self.is_motion(apart)):
            return False
        return not self.is_flash(apart) and not any(self.is_mixed(i, j) for i, j in self.ends)

    def apart(self, i: int, j: int) -> float:
        """The difference of two pictures."""
        return self._known(difference, i, j)

    def change(self, i: int, j: int) -> float:
        """The change in place between two pictures, levels."""
        return self._known(_change, i, j)

    def _known(self, measure: Measure, i: int, j: int) -> float:
        key = measure, self.start + i, self.start + j
        if key not in self.known:
            self.known[key] = measure(self.pictures[i], self.pictures[j])
        return self.known[key]

    def around(self, measure: Measure) -> float:
        """The most that is going on around the place; the one place where it is more may be a cut."""
        pairs = [(self.at + k - 1, self.at + k) for k in (-2, -1, 1, 2)]
        inside = [(i, j) for i, j in pairs if i >= 0 and j < len(self.pictures)]
        return sorted([0.0, 0.0, *(self._known(measure, i, j) for i, j in inside)])[-2]

    def is_jump(self) -> bool:
        """Whether the picture changes as it does nowhere around, though each part may be like another's.

        One head before a wall is like the next; but the whole is not the same picture moved, as after missing
        frames it is.
        """
        change = self.change(self.at - 1, self.at)
        if change < JUMP_LEVELS or change < JUMP * (self.around(_change) + 1):
            return False
        return _apart_wide(self.pictures[self.at - 1], self.pictures[self.at]) > LEAST_OF_JUMP

    def is_flash(self, apart: float) -> bool:
        """Whether the scene comes back, and all between is the same with light added or taken."""
        change = self.change(self.at - 1, self.at)
        return any(
            all(self.is_lit(i, k) or self.is_lit(j, k) for k in range(i + 1, j))
            and (
                self.change(i, j) < AGAIN_CHANGE * change
                or self.apart(i, j) < min(AGAIN, AGAIN_SHARE * apart)
            )
            for i, j in self.ends
        )

    def is_lit(self, i: int, k: int) -> bool:
        """Whether picture k is picture i with light added everywhere, or taken from it; both may move.

        Light shows nothing that was not there.
        """
        scene, lit = self.pictures[i], self.pictures[k]
        if abs(float(lit.mean()) - float(scene.mean())) < FLASH_LEVELS:
            return False
        if _detail(lit) > FLASH_DETAIL * _detail(scene) + FLASH_DETAIL_LEVELS:
            return False
        around = np.ones(FLASH_MOTION_PX, np.uint8)
        brighter = lit > cv2.erode(scene, around).astype(np.int16) - FLASH_SLACK
        darker = lit < cv2.dilate(scene, around).astype(np.int16) + FLASH_SLACK
        return float(max(brighter.mean(), darker.mean())) > FLASH_SHARE

    def is_motion(self, apart: float) -> bool:
        """Whether it is no more than what goes on around it, as in a fast pan.

        Single pictures of another scene differ as much from what is around them; then that comes back.
        """
        if apart >= SURE:
            return False
        if apart >= PEAK * self.around(difference) + LEAST_OF_JUMP:
            return False
        comes_back = OTHER_SHARE * apart
        return apart <= OTHER or not any(self.apart(i, j) < comes_back for i, j in self.ends)

    def is_mixed(self, i: int, j: int) -> bool:
        """Whether all between two pictures is a mixture of them, with more and more of the second."""
        first, *between, last = (picture.astype(np.float32) for picture in self.pictures[i : j + 1])
        change = last - first
        total = float((change * change).sum())
        detail = float(((change - change.mean()) ** 2).sum())
        if len(between) < 2 or total == 0:
            return False
        shares = [0.0]
        for picture in between:
            share = float(((picture - first) * change).sum()) / total
            rest = float(((picture - first - share * change) ** 2).sum())
            if rest > min(MIXED_SHARE * total, MIXED_DETAIL * detail):
                return False
            shares.append(share)
        steps = np.diff([*shares, 1.0])
        return bool(steps.min() > LEAST_STEP and steps.max() < MOST_STEP)


def _clean(luma: Luma) -> Luma:
    """Without what film adds: grain, scratches, dust."""
    smooth = cv2.GaussianBlur(cv2.medianBlur(luma, SPECK_PX), (0, 0), GRAIN_PX)
    return np.asarray(smooth, dtype=np.uint8)


def _change(previous: Luma, picture: Luma) -> float:
    """How much of two pictures no gain and slope of light explains: rms, levels, of the worse explained."""
    slopes = _slopes(previous.shape[0], previous.shape[1])
    a, b = previous.ravel().astype(np.float32), picture.ravel().astype(np.float32)
    a, b = a - slopes.T @ (slopes @ a), b - slopes.T @ (slopes @ b)
    aa, bb, ab = float(a @ a), float(b @ b), max(0.0, float(a @ b))
    rest = max(aa - ab * ab / max(bb, 1e-6), bb - ab * ab / max(aa, 1e-6))
    return math.sqrt(max(0.0, rest) / a.size)


def _detail(luma: Luma) -> float:
    """Mean absolute difference from what is around, levels."""
    return float(cv2.absdiff(luma, np.asarray(cv2.blur(luma, (5, 5)))).mean())


@cache
def _slopes(height: int, width: int) -> NDArray[np.float32]:
    """An orthonormal basis of the planes over a picture: (3, H * W), fewer where the picture is a line."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    planes = [np.ones(x.size)] + [axis.ravel() for axis, side in ((x, width), (y, height)) if side > 1]
    return np.array([plane / np.linalg.norm(plane) for plane in planes], dtype=np.float32)


def _found_near(previous: Luma, picture: Luma) -> float:
    """How much of a picture's tiles, weighed by their contrast, is near its place in the one before."""
    down, across = SEARCH_PX
    wide = cv2.copyMakeBorder(previous, down, down, across, across, cv2.BORDER_REPLICATE)
    height, width = (min(side, tile) for side, tile in zip(picture.shape, TILE_PX, strict=True))
    total = found = 0.0
    for y in range(0, picture.shape[0] - height + 1, height):
        for x in range(0, picture.shape[1] - width + 1, width):
            tile = picture[y : y + height, x : x + width]
            near = wide[y : y + height + 2 * down, x : x + width + 2 * across]
            contrast = float(tile.std())
            weight = contrast + float(previous[y : y + height, x : x + width].std())
            total += weight
            if contrast > 1:
                found += weight * float(cv2.matchTemplate(near, tile, cv2.TM_CCOEFF_NORMED).max())
    return found / total if total > 0 else 1.0


def _apart_wide(previous: Luma, picture: Luma) -> float:
    return 1 - max(_found_wide(previous, picture), _found_wide(picture, previous))


def _found_wide(previous: Luma, picture: Luma) -> float:
    """How well the left or the right part of a picture is found anywhere in the one before, in its light."""
    height, width = picture.shape
    margin, part = height // 9, max(1, round(width * WIDE))
    found = 0.0
    for left in (0, width - part):
        side = picture[margin : height - margin, left : left + part]
        if side.std() > 1:
            _, score, _, (x, y) = cv2.minMaxLoc(cv2.matchTemplate(previous, side, cv2.TM_CCOEFF_NORMED))
            match = previous[y : y + side.shape[0], x : x + part]
            contrasts = sorted((float(side.std()), float(match.std())))
            if score > found and _is_same_light(match, side) and contrasts[1] < MOST_GAIN * contrasts[0]:
                found = score
    return found


def _is_same_light(previous: Luma, picture: Luma) -> bool:
    """Whether the means differ by no more than film flickers."""
    means = float(previous.mean()), float(picture.mean())
    return abs(means[0] - means[1]) <= LIGHT_SHARE * max(means) + LIGHT_LEVELS
