"""Tint: whether faces are in colour, or black and white or tinted; and the chroma of those, kept as it was.

A picture is monochrome where its chroma follows from its luma: none in black and white, a curve in sepia and
other tints. So a curve is laid through the chroma of a face and a little around it, in small cells, and what
is left over is looked at: skin, lips, eyes, hair and wall have cells of one luma and not of one chroma. The
brightest cells are left out, for where a scan clips a curve breaks.

Noise must not count. What is left over in a cell is multiplied by that in another one, two cells further one
way and one the other. Colour fills more than a cell, so such products add up to its power; noise, which every
cell has anew, adds up to nothing, and the streaks of a video tape do so from line to line: what is less
counts, of pairs across and of pairs down. A tint that was blurred, coded or grainy lies beside its curve by a
part of itself: the more chroma there is in all, the more of it has to be left over.

The power of one noisy frame is uncertain, and a share of chroma that followed it would flicker. So the share
of each face follows the mean power of half a second, by no more than half of all there is in a second; and
it begins anew at cuts and periods as all means do, see `gpenvideo.means`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import cv2
import numpy as np

from gpenvideo.frame import Frame, Samples
from gpenvideo.matching.place import Pixels, Place, Window, add_to_luma, luma, luma_of, part, surroundings
from gpenvideo.means import Means

__all__ = ["Tint", "colourfulness", "keep_chroma", "power"]

CELLS = 32  # along the longer side
RIDGE = 1e-3  # of the fit, where all cells have one luma
BRIGHT = 215  # luma from where cells are not looked at: there scans clip, and curves break
FEWEST = 40  # pairs of cells, of some 1500
OF_WHOLE = 0.1  # how much of all chroma may be left over, where there is much
HDR = {16: 3.0, 18: 1.7}  # PQ and HLG: how much less their chroma spreads than ordinary video's of one scene
GREY, COLOURED = 0.65, 0.83  # roots of powers: monochrome up to there, colour from there on
TO_BLUE, TO_RED = np.float32(1 / 1.8556), np.float32(1 / 1.5748)  # from differences with luma: BT.709
MEMORY_S, FOLLOW_S = 0.5, 2.0  # time constants: of the mean power, and of what follows it
LEAST_STEP_S = 1e-3


class Tint:
    """How much of colour the faces of one stream have, steady in time; see the module."""

    def __init__(self) -> None:
        self._means = Means(_Share, _between_shares)

    def cut(self) -> None:
        """A shot starts."""
        self._means.cut()

    def __call__(self, frame: Frame, places: Sequence[Place], time_s: Fraction) -> list[float]:
        """See `colourfulness`, of each place.

        Args:
            frame: as it was before its faces were restored.
            places: its faces.
            time_s: in the stream; later than that of the frame before.
        """
        powers = [power(frame, surroundings(place.window, frame)) for place in places]
        return [self.share(place.track, time_s, each) for place, each in zip(places, powers, strict=True)]

    def share(self, track: int, time_s: Fraction, power: float) -> float:
        """The share of one face, in [0, 1], after one more `power`."""
        return round(self._means(track, time_s, power), 6)  # alike on machines that add up otherwise


class _Share:
    """Follows the colourfulness of a mean power, slowly."""

    def __init__(self) -> None:
        self._time_s, self._seen, self._power, self._share = Fraction(0), 0, 0.0, 0.0

    def take(self, time_s: Fraction, value: float) -> float:
        """The share after one more power."""
        step_s, self._time_s = max(LEAST_STEP_S, float(time_s - self._time_s)), time_s
        self._seen += 1
        self._power += max(1 / self._seen, -math.expm1(-step_s / MEMORY_S)) * (value - self._power)
        weight = -math.expm1(-step_s / FOLLOW_S) if self._seen > 1 else 1.0
        self._share += weight * (colourfulness(self._power) - self._share)
        return self._share


def _between_shares(one: float, other: float, share: float) -> float:
    return one + share * (other - one)


def colourfulness(power: float) -> float:
    """What a power is: 0 is black and white or tinted, 1 is colour, and there is no step between."""
    share = min(1.0, max(0.0, (math.sqrt(max(0.0, power)) - GREY) / (COLOURED - GREY)))
    return share * share * (3 - 2 * share)


def power(frame: Frame, window: Window) -> float:
    """How much the chroma of a part of a frame is its own, not its luma's; negative where noise outweighs it.

    Args:
        frame: of any layout; grey ones have 0.
        window: rows and columns of luma.

    Returns:
        A power, squares of levels of 8 bits, in relation to all chroma there is.
    """
    if frame.layout.model == "grey":
        return 0.0
    light, chroma = _cells(frame, window)
    seen = (light < BRIGHT).astype(np.float32)
    own, scaled = chroma * seen, light * np.float32(1 / 128) - 1
    powers = np.stack([seen, seen * scaled, seen * scaled * scaled]).reshape(3, -1)
    given = own.reshape(2, -1)
    curve = np.linalg.solve(powers @ powers.T + RIDGE * np.eye(3), powers @ given.T)
    left = own - (curve.T @ powers).reshape(own.shape)
    # streaks are long across, or down
    shared = min(_shared(left, seen), _shared(left.swapaxes(1, 2), seen.T))
    unit = HDR.get(frame.colour.transfer, 1.0)
    whole = unit * math.sqrt(np.vdot(own, own) / max(1.0, seen.sum()))
    return shared * (unit / (1 + OF_WHOLE * whole)) ** 2


def keep_chroma(result: Frame, source: Frame, window: Window, share: float) -> None:
    """Draw the chroma of a part of a result to the source's, in place.

    Args:
        result: `edited`.
        source: of the same layout and size.
        window: rows and columns of luma.
        share: of the change that stays, in [0, 1]; with 0 every chroma sample is the source's, and of RGB all
            three samples of a pixel differ from the source's by the same, which is the change of its luma.
    """
    if result.layout.model == "grey" or share >= 1:
        return
    if result.layout.model == "rgb":
        _keep_colour(result, source, window, share)
        return
    coarse = part(window, result.layout.step)
    for after, before in zip(result.planes[1:], source.planes[1:], strict=True):
        after[coarse] = _between(before[coarse], after[coarse], share)


def _keep_colour(result: Frame, source: Frame, window: Window, share: float) -> None:
    change = luma(result, window) - luma(source, window)
    whole = [plane[window].copy() for plane in result.planes]
    for after, before in zip(result.planes, source.planes, strict=True):
        after[window] = before[window]
    add_to_luma(result, window, change)
    if share > 0:
        for plane, coloured in zip(result.planes, whole, strict=True):
            plane[window] = _between(plane[window], coloured, share)


def _between(one: Samples, other: Samples, share: float) -> Samples:
    if share <= 0:
        return one
    mixed = one + np.float32(share) * (other.astype(np.float32) - one.astype(np.float32))
    return np.asarray(np.rint(mixed), dtype=one.dtype)


def _cells(frame: Frame, window: Window) -> tuple[Pixels, Pixels]:
    """Luma (h, w) and chroma (2, h, w) of a part of a frame, means over cells of the very same samples.

    They are levels of 8 bits, chroma about 0. Where not a cell fits in, there are none.
    """
    step, unit = frame.layout.step, 2.0 ** (frame.layout.depth_bits - 8)
    size = [each.stop - each.start for each in window[::-1]]
    side = max(size) / CELLS
    fine = [by * max(2, round(side / by)) for by in step]  # neighbouring chroma samples are never apart
    count = [length // cell for length, cell in zip(size, fine, strict=True)]
    if not all(count):
        return np.zeros((0, 0), np.float32), np.zeros((2, 0, 0), np.float32)
    found = []
    for plane, by in zip(frame.planes, ((1, 1), step, step), strict=True):
        across, down = (cell // each for cell, each in zip(fine, by, strict=True))
        samples = plane[part(window, by)][: count[1] * down, : count[0] * across]
        means = cv2.resize(np.ascontiguousarray(samples), count, interpolation=cv2.INTER_AREA)
        found.append(means.astype(np.float32) * np.float32(1 / unit))
    light, blue, red = found
    if frame.layout.model == "yuv":
        return light, np.stack([blue, red]) - np.float32(128)
    light = luma_of(light, blue, red)
    return light, np.stack([(blue - light) * TO_BLUE, (red - light) * TO_RED])


def _shared(left: Pixels, seen: Pixels) -> float:
    """The mean product of what is left in a cell and in the cell two down and one to either side."""
    if seen.shape[0] < 3 or seen.shape[1] < 2:
        return 0.0
    sums, pairs = (
        float(np.vdot(each[..., 2:, 1:], each[..., :-2, :-1]))
        + float(np.vdot(each[..., 2:, :-1], each[..., :-2, 1:]))
        for each in (left, seen)
    )
    return sums / max(pairs, FEWEST)
