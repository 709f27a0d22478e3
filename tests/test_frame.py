"""Frames and streams: what fits, and where upright is."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpenvideo import OptionError
from gpenvideo.frame import Colour, Frame, Layout, StreamInfo

BT709 = Colour(1, full_range=False)


def frame(*shapes: tuple[int, int], layout: Layout, dtype: type = np.uint8) -> Frame:
    planes = tuple(np.zeros(shape, dtype) for shape in shapes)
    return Frame(planes, layout, BT709, pts=50, time_base=Fraction(1, 25))


def test_planes_fit_their_layout() -> None:
    odd = frame((5, 7), (3, 4), (3, 4), layout=Layout("yuv", 8, (2, 2)))
    assert (odd.width, odd.height, odd.time_s) == (7, 5, 2.0)
    assert repr(odd) == "Frame(7x5 yuv 8 bits step (2, 2), pts 50 of 1/25 s)"
    with pytest.raises(OptionError, match=r"\(3, 4\) uint8, got \(2, 4\)"):
        frame((5, 7), (2, 4), (3, 4), layout=Layout("yuv", 8, (2, 2)))
    with pytest.raises(OptionError, match="uint16"):
        frame((4, 4), layout=Layout("grey", 10))
    with pytest.raises(OptionError, match="3 planes"):
        frame((4, 4), layout=Layout("rgb", 8))
    with pytest.raises(OptionError, match="only chroma"):
        Layout("rgb", 8, (2, 2))
    with pytest.raises(OptionError, match="bits"):
        Layout("grey", 17)


def test_a_copy_is_written_without_a_trace() -> None:
    first = frame((4, 4), (2, 2), (2, 2), layout=Layout("yuv", 8, (2, 2)))
    second = first.copy()
    second.planes[0][:] = 9
    assert second.edited
    assert not first.edited
    assert not first.planes[0].any()


@given(
    width=st.integers(1, 50),
    height=st.integers(1, 50),
    rotation=st.sampled_from([0, 90, 180, 270]),
    mirrored=st.booleans(),
)
def test_upright_is_what_turning_the_array_gives(
    width: int, height: int, rotation: int, mirrored: bool
) -> None:
    info = StreamInfo(
        width,
        height,
        "gray",
        Layout("grey", 8),
        BT709,
        Fraction(1, 25),
        rotation_deg=rotation,
        mirrored=mirrored,
    )
    coded = np.arange(width * height).reshape(height, width)
    upright = np.rot90(coded[:, ::-1] if mirrored else coded, -rotation // 90)
    assert info.upright_size == upright.shape[::-1]
    ys, xs = np.mgrid[:height, :width]
    x, y = info.upright_from_coded @ np.stack([xs.ravel(), ys.ravel(), np.ones(xs.size)])
    assert np.array_equal(upright[y.round().astype(int), x.round().astype(int)], coded.ravel())


@pytest.mark.parametrize(
    ("aspect", "size"),
    [(Fraction(16, 15), (768, 576)), (Fraction(64, 45), (1024, 576)), (Fraction(1, 2), (720, 1152))],
)
def test_samples_that_are_not_square_are_stretched(aspect: Fraction, size: tuple[int, int]) -> None:
    info = StreamInfo(720, 576, "gray", Layout("grey", 8), BT709, Fraction(1, 25), sample_aspect=aspect)
    assert info.upright_size == size
    corners = info.upright_from_coded @ np.array([(-0.5, 719.5), (-0.5, 575.5), (1, 1)])
    assert corners == pytest.approx(np.array([(-0.5, size[0] - 0.5), (-0.5, size[1] - 0.5)]))


def test_only_quarter_turns_and_positive_aspects() -> None:
    for wrong in ({"rotation_deg": 45}, {"sample_aspect": Fraction(0)}):
        with pytest.raises(OptionError):
            StreamInfo(4, 4, "gray", Layout("grey", 8), BT709, Fraction(1, 25), **wrong)  # type: ignore[arg-type]
