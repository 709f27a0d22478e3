"""How steady a restored face is: landmarks that jitter, and pixels that flicker.

Over landmarks: (T, 5, 2) px, a row a frame of equal steps in time, NaN where a face is missing. `starts` is
(T,) bool, True where a shot starts: nothing is compared across a cut; None is one shot. Distances on a face
are in eye distances, those of the truth where there is one.

Over pairs of neighbouring frames: pictures are (H, W, 3) uint8 RGB, or (H, W) grey; errors are mean squares
with white at 1.
NaN is what there is nothing to measure of. Blur makes a video steady too: read these beside a sharpness.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpenvideo.errors import OptionError

__all__ = [
    "Motion",
    "angles",
    "differences",
    "eye_distances",
    "flicker",
    "jitter",
    "jitters",
    "lag_frames",
    "motion",
    "motion_errors",
    "peak_velocity_error",
    "rms",
    "still",
    "warp_error",
    "warped",
]

Array = NDArray[np.float64]
Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Starts = NDArray[np.bool_]

MOST_LAG = 10  # frames, to either side
MOVES = 0.02  # eye distances, rms: what moves less tells nothing of a lag
PROFILE = 0.8  # of the height from eyes to mouth: a face has its eyes further apart
NEAR_PEAK = 0.9  # of the highest speed

FLOW_SIGMA_PX = 0.8  # flow is sought in pictures this much smoothed: grain moves nowhere
WINDOW_PX = 7  # over which the truth has to fit itself
FITS, STANDS = 10.0, 1.5  # levels, of the mean difference in a window
RESTS_PX = 0.25  # of what does not move
LEAST_SIDE_PX = 32  # of what a flow is sought in
LEAST_PIXELS = 64  # that a mean is taken over


def differences(values: ArrayLike, order: int, starts: Starts | None = None) -> Array:
    """(T, ...): the difference of that order that ends at each frame; NaN where a shot is younger.

    Order 1 is v[t] - v[t-1], order 2 is v[t] - 2 v[t-1] + v[t-2].
    """
    result = np.array(values, np.float64)
    for _ in range(order):
        result[1:] = result[1:] - result[:-1]
        result[:1] = np.nan
        if starts is not None:
            result[starts] = np.nan
    return result


def jitters(landmarks: ArrayLike, reference: ArrayLike | None = None, starts: Starts | None = None) -> Array:
    """(T,): how much the landmarks shake at each frame, in eye distances.

    The rms over the landmarks of the second difference in time: of the way they go or, with a reference, of
    the way they go from it, so that motion that both share does not count.
    """
    points, others = _pair(landmarks, landmarks if reference is None else reference)
    moved = points if reference is None else points - others
    second = differences(moved, 2, starts)
    return np.asarray(np.sqrt((second**2).sum(axis=2).mean(axis=1)) / eye_distances(others))


def jitter(landmarks: ArrayLike, reference: ArrayLike | None = None, starts: Starts | None = None) -> float:
    """The rms of `jitters` over all frames."""
    return rms(jitters(landmarks, reference, starts))


def motion_errors(landmarks: ArrayLike, truth: ArrayLike, starts: Starts | None = None) -> Array:
    """(T,): temporal landmark motion error (TLME) at each frame, in eye distances; its mean is the measure.

    The mean over the landmarks of |(l[t] - l[t-1]) - (g[t] - g[t-1])|: how far the step from the frame
    before is from the truth's. Papers on video face restoration that give a TLME differ in the number of
    landmarks and in the unit.
    """
    points, true = _pair(landmarks, truth)
    steps = differences(points - true, 1, starts)
    return np.asarray(np.linalg.norm(steps, axis=2).mean(axis=1) / eye_distances(true))


def lag_frames(
    landmarks: ArrayLike, truth: ArrayLike, starts: Starts | None = None, *, most: int = MOST_LAG
) -> float:
    """By how many frames landmarks come behind the truth; negative: before it.

    The shift at which the two differ least but for a constant: what the maximum of their cross-correlation
    gives, without its bias towards no shift where the ends of a shot go out of the window. Between whole
    frames by the parabola through the least and its neighbours. NaN where the face rests, the lag is
    `most` frames or more, or less than half of the frames can be compared.
    """
    points, true = _pair(landmarks, truth)
    begins = np.zeros(len(points), bool) if starts is None else np.asarray(starts, bool)
    shots = np.cumsum(begins)
    spread = [_centred(true[shots == shot]) for shot in np.unique(shots)]
    moved = rms(np.concatenate([np.linalg.norm(part, axis=2).ravel() for part in spread]))
    if not moved > MOVES * float(np.nanmedian(eye_distances(true))):
        return float("nan")
    shifts = np.arange(-most, most + 1)
    costs = np.array([_unlikeness(points, true, shots, int(shift)) for shift in shifts])
    if not np.isfinite(costs).any():
        return float("nan")
    best = int(np.nanargmin(costs))
    if best in (0, len(costs) - 1) or not np.isfinite(costs[best - 1 : best + 2]).all():
        return float("nan")
    before, least, after = costs[best - 1 : best + 2]
    bend = before - 2 * least + after
    return float(shifts[best] + (0.5 * (before - after) / bend if bend > 0 else 0.0))


def peak_velocity_error(
    landmarks: ArrayLike, truth: ArrayLike, widths_px: ArrayLike, starts: Starts | None = None
) -> float:
    """How far landmarks are from the truth where it moves fastest, in face widths.

    The mean over the frames in which the truth's speed is 0.9 of its highest or more.

    widths_px   (T,) of the face
    """
    points, true = _pair(landmarks, truth)
    widths = np.asarray(widths_px, np.float64)
    speeds = np.linalg.norm(differences(true, 1, starts), axis=2).mean(axis=1) / widths
    errors = np.linalg.norm(points - true, axis=2).mean(axis=1) / widths
    known = np.isfinite(speeds) & np.isfinite(errors)
    if not known.any():
        return float("nan")
    return float(errors[known & (speeds >= NEAR_PEAK * speeds[known].max())].mean())


def angles(embeddings: ArrayLike, starts: Starts | None = None) -> Array:
    """(T,): the angle in radians between the embedding of each frame and that of the one before.

    Of ArcFace's embeddings, its mean is the VIDD of papers on video face restoration: how far the identity
    wanders from frame to frame. For small angles it is the Euclidean distance, which some give.

    embeddings   (T, D) of any length, NaN where there is none
    """
    values = np.asarray(embeddings, np.float64)
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    chords = np.linalg.norm(differences(unit, 1, starts), axis=1)  # exact where a cosine is not
    return np.asarray(2 * np.arcsin(np.minimum(chords / 2, 1.0)))


def eye_distances(landmarks: Array) -> Array:
    """(T,) px: what distances on a face are measured in.

    At least 0.8 of what lies between the middle of the eyes and that of the mouth, which is less than the
    distance of the eyes unless the face is turned to the side.
    """
    eyes = np.linalg.norm(landmarks[:, 1] - landmarks[:, 0], axis=1)
    down = landmarks[:, 3:].mean(axis=1) - landmarks[:, :2].mean(axis=1)
    return np.asarray(np.maximum(eyes, PROFILE * np.linalg.norm(down, axis=1)))


def rms(values: ArrayLike) -> float:
    """Root mean square of what is known of some values; NaN of nothing."""
    array = np.asarray(values, np.float64)
    known = array[np.isfinite(array)]
    return float(np.sqrt(np.mean(known**2))) if known.size else float("nan")


class Motion(NamedTuple):
    """How a picture came out of the one before."""

    flow: NDArray[np.float32]
    """(H, W, 2) px: what is at p in the picture was at p + flow before."""

    known: Mask
    """(H, W): where that can be relied upon."""


def motion(previous: Pixels, picture: Pixels) -> Motion:
    """The motion from the picture before: of the truth or, where there is none, of the source.

    Dense inverse search (Kroeger et al., "Fast Optical Flow using Dense Inverse Search", 2016), both ways.
    Known is where the two flows agree within the bound of Sundaram et al. ("Dense Point Trajectories by
    GPU-accelerated Large Displacement Optical Flow", 2010), which Lai et al. mask with too, where they stay
    inside the picture, and where the picture fits what is warped: within 10 levels in the mean of 7 x 7 px,
    after what changes everywhere, light.

    Raises OptionError for pictures below 32 px.
    """
    if picture.shape != previous.shape or min(picture.shape[:2]) < LEAST_SIDE_PX:
        raise OptionError(
            f"motion is sought in two pictures of {LEAST_SIDE_PX} px or more, got {picture.shape}"
        )
    grey, before = (cv2.GaussianBlur(_grey(one), (0, 0), FLOW_SIGMA_PX) for one in (picture, previous))
    search: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow = np.asarray(search.calc(grey, before, None), np.float32)
    forth = warped(np.asarray(search.calc(before, grey, None), np.float32), flow)
    gap, lengths = ((flow + forth) ** 2).sum(axis=2), (flow**2 + forth**2).sum(axis=2)
    known = gap <= 0.01 * lengths + 0.5
    misfit = np.abs(_mean_change(grey, warped(before, flow), evenly=True))
    return Motion(flow, known & _inside(flow) & (misfit <= FITS))


def warped(previous: NDArray[Any], flow: NDArray[np.float32]) -> NDArray[Any]:
    """The picture before, moved to where the flow says: (H, W) or (H, W, C), cubic."""
    height, width = flow.shape[:2]
    x = flow[..., 0] + np.arange(width, dtype=np.float32)
    y = flow[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    return np.asarray(cv2.remap(previous, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE))


def warp_error(picture: Pixels, previous: Pixels, moved: Motion, mask: Mask | None = None) -> float:
    """Mean square of what a picture differs by from the one before, moved with the truth.

    Lai et al., "Learning Blind Video Temporal Consistency" (2018), for one pair; the mean over the pairs is
    theirs. Warping blurs by parts of a pixel, so a sharp video has more of it than a soft one, and the truth
    some: judge by the ratio to the truth's.

    mask   (H, W): where; None is everywhere that the motion is known
    """
    where = moved.known if mask is None else moved.known & mask
    return _mean_square(picture, warped(previous, moved.flow), where)


def still(previous: Pixels, picture: Pixels, moved: Motion) -> Mask:
    """(H, W): where the truth (or the source) does not change.

    It moves by less than 0.25 px, and by less than 1.5 levels in the mean of 7 x 7 px.
    """
    grey, before = _grey(picture), _grey(previous)
    rests = moved.known & ((moved.flow**2).sum(axis=2) <= RESTS_PX**2)
    return np.asarray(rests & (np.abs(_mean_change(grey, before)) <= STANDS))


def flicker(picture: Pixels, previous: Pixels, where: Mask) -> float:
    """Temporal gradient energy: mean square of the change from the picture before, `where` nothing moves."""
    return _mean_square(picture, previous, where)


def _pair(a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    for points in (first, second):
        if points.ndim != 3 or points.shape[1:] != (5, 2) or len(points) != len(first):
            raise OptionError(f"landmarks are (T, 5, 2), as many of both, got {first.shape}, {second.shape}")
    return first, second


def _unlikeness(points: Array, true: Array, shots: NDArray[np.int_], shift: int) -> float:
    """Mean square of points[t] - true[t - shift] without its mean over each shot; NaN of less than half."""
    if 2 * abs(shift) >= len(points):
        return float("nan")
    late, early = slice(max(shift, 0), len(points) + min(shift, 0)), slice(max(-shift, 0), None)
    here = points[late]
    there, same = true[early][: len(here)], shots[late] == shots[early][: len(here)]
    apart = [_centred((here - there)[same & (shots[late] == shot)]) for shot in np.unique(shots)]
    compared = np.concatenate(apart)
    return rms(compared) ** 2 if 2 * len(compared) >= len(points) else float("nan")


def _centred(values: Array) -> Array:
    """Without the mean over the frames that are known; nothing of fewer than three."""
    known = values[np.isfinite(values).all(axis=(1, 2))]
    return known - known.mean(axis=0) if len(known) > 2 else known[:0]


def _grey(picture: Pixels) -> Pixels:
    return picture if picture.ndim == 2 else np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8)


def _mean_change(a: NDArray[Any], b: NDArray[Any], *, evenly: bool = False) -> NDArray[np.float32]:
    """a - b, the mean over a window: what noise does to single pixels does not count.

    evenly   without what changes everywhere: light
    """
    change = cv2.subtract(a, b, dtype=cv2.CV_32F)
    if evenly:
        change = change - np.float32(np.median(change))
    return np.asarray(cv2.blur(change, (WINDOW_PX, WINDOW_PX)), np.float32)


def _inside(flow: NDArray[np.float32]) -> Mask:
    height, width = flow.shape[:2]
    x, y = np.arange(width) + flow[..., 0], np.arange(height)[:, None] + flow[..., 1]
    return np.asarray((x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1))


def _mean_square(picture: Pixels, other: NDArray[Any], where: Mask) -> float:
    if np.count_nonzero(where) < LEAST_PIXELS:
        return float("nan")
    change = cv2.absdiff(picture[where], np.asarray(other[where], np.uint8)).astype(np.float64)
    return float(np.mean((change / 255) ** 2))
