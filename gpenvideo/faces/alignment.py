"""Alignment: five landmarks to the similarity that carries a picture's pixels into an aligned crop.

Matrices are those of `gpenvideo.affine`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpenvideo.errors import FaceError, OptionError

__all__ = ["alignment_error", "crop_from_frame", "similarity", "template"]

Matrix = NDArray[np.float64]

# The 96 x 112 five-point template of face recognition, and where GPEN puts it: shifted by 8 px to stand in a
# square of 112 px, that padded by a quarter (28 px) on each side (GPEN notes, section 11).
_ARCFACE = np.array(
    [
        (30.29459953, 51.69630051),
        (65.53179932, 51.50139999),
        (48.02519989, 71.73660278),
        (33.54930115, 92.3655014),
        (62.72990036, 92.20410156),
    ]
)
_GPEN = (_ARCFACE + np.array((8 + 28, 28))) / (112 + 2 * 28)

# The mean landmarks of FFHQ's aligned crops at 512 px, as facexlib and GFPGAN align to them.
_FFHQ = (
    np.array(
        [
            (192.98138, 239.94708),
            (318.90277, 240.1936),
            (256.63416, 314.01935),
            (201.26117, 371.41043),
            (313.08905, 371.15118),
        ]
    )
    / 512
)
_TEMPLATES = {"gpen": _GPEN, "ffhq": _FFHQ}


def template(name: Literal["gpen", "ffhq"], size_px: int) -> Matrix:
    """Where the five landmarks lie in an aligned crop of `size_px`.

    "gpen" is the alignment of the published GPEN networks, "ffhq" the closer one of FFHQ's crops.
    Both scale plainly with the crop (points * size / 512), as their authors have it.

    Returns:
        (5, 2) float64, px, in the order of `gpenvideo.face.LANDMARKS`.

    Raises:
        OptionError: another name, or a size below 1.
    """
    if name not in _TEMPLATES:
        raise OptionError(f"the templates are {' and '.join(_TEMPLATES)}, got {name!r}")
    if size_px < 1:
        raise OptionError(f"a crop is 1 px wide or more, got {size_px}")
    return np.asarray(_TEMPLATES[name] * size_px)


def similarity(source: ArrayLike, target: ArrayLike) -> Matrix:
    """The rotation, uniform scale and shift that carries `source` nearest to `target`; never a reflection.

    Least squares (Umeyama, "Least-squares estimation of transformation parameters between two point
    patterns", 1991). In the plane, with points as complex numbers about their means, rotation and scale
    are one factor, sum(conj(source) * target) / sum(|source|^2), and no singular values are needed.

    Args:
        source, target: (N, 2), N >= 2.

    Returns:
        (2, 3) float64, `target_from_source`.

    Raises:
        FaceError: the points of one side coincide, are not finite, or have no similarity to the other's.
    """
    s, t = _complex(source), _complex(target)
    if len(s) != len(t) or len(s) < 2:
        raise OptionError(f"two or more pairs of points make a similarity, got {len(s)} and {len(t)} points")
    if not np.isfinite([s, t]).all():
        raise FaceError(f"no similarity fits points that are not finite: {np.asarray(source).tolist()}")
    s_mean, t_mean = s.mean(), t.mean()
    s, t = s - s_mean, t - t_mean
    product, s_size, t_size = np.vdot(s, t), np.linalg.norm(s), np.linalg.norm(t)
    if s_size < 1e-9 * (1 + abs(s_mean)) or abs(product) < 1e-6 * s_size * t_size:
        raise FaceError(f"no similarity fits these points: {np.asarray(source).tolist()}")
    factor = product / s_size**2
    shift = t_mean - factor * s_mean
    a, b = factor.real, factor.imag
    return np.array([[a, -b, shift.real], [b, a, shift.imag]])


def crop_from_frame(landmarks: ArrayLike, template_points: ArrayLike) -> Matrix:
    """The similarity that carries a face's landmarks nearest to a template's (GPEN notes, section 11).

    Args:
        landmarks: (5, 2), px of the frame.
        template_points: (5, 2), px of the crop: see `template`.

    Returns:
        (2, 3) float64. The published code fits in float32; the two agree to 3e-3 px.

    Raises:
        FaceError: the landmarks coincide or are not finite.
    """
    return similarity(landmarks, template_points)


def alignment_error(landmarks: ArrayLike, template_points: ArrayLike) -> float:
    """How far a crop's landmarks lie from its template: rms distance over the template's eye distance.

    Below 0.2 in a crop that was aligned to this template, whatever the face; a portrait that merely fills
    its picture has some 0.4.

    Args:
        landmarks: (5, 2), px of the crop.
        template_points: (5, 2), px of the same crop: `template(name, its side)`.
    """
    found, expected = _complex(landmarks), _complex(template_points)
    rms = np.sqrt(np.mean(np.abs(found - expected) ** 2))
    return float(rms / abs(expected[1] - expected[0]))


def _complex(points: ArrayLike) -> NDArray[np.complex128]:
    xy = np.asarray(points, dtype=np.float64)
    if xy.ndim != 2 or xy.shape[1] != 2:
        raise OptionError(f"points have shape (N, 2), got {xy.shape}")
    return np.ascontiguousarray(xy).view(np.complex128)[:, 0]
