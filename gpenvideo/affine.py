"""Affine maps of the plane, as (2, 3) matrices that act on column vectors (x, y, 1).

They are named destination first: `crop_from_frame` carries a point of the frame into the crop, and
compose(crop_from_frame, frame_from_screen) is `crop_from_screen`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpenvideo.errors import OptionError

__all__ = ["Matrix", "compose", "invert"]

Matrix = NDArray[np.floating]


def invert(b_from_a: ArrayLike) -> NDArray[np.float64]:
    """(2, 3) to (2, 3) `a_from_b`, float64; OptionError where it has no inverse."""
    matrix = np.asarray(b_from_a, dtype=np.float64)
    determinant = 0.0
    if matrix.shape == (2, 3):
        (a, b, x), (c, d, y) = matrix.tolist()
        determinant = a * d - b * c
    if determinant == 0 or not np.isfinite(matrix).all():
        raise OptionError(f"a (2, 3) matrix with an inverse is needed, got {matrix.tolist()}")
    return np.array([(d, -b, b * y - d * x), (-c, a, c * x - a * y)]) / determinant


def compose(a_from_b: ArrayLike, b_from_c: ArrayLike) -> NDArray[np.float64]:
    """(2, 3) and (2, 3) to their product `a_from_c`, float64: the second acts first."""
    a, b = np.asarray(a_from_b, dtype=np.float64), np.asarray(b_from_c, dtype=np.float64)
    product = a[:, :2] @ b
    product[:, 2] += a[:, 2]
    return product
