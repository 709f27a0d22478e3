"""Light: the curves against the standards, and the way to the working space and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gpenvideo.frame import Colour
from gpenvideo.kernels.light import (
    from_working,
    hlg_code,
    hlg_light,
    is_foreign,
    pq_code,
    pq_light,
    to_working,
)

Pixels = NDArray[np.float32]

PQ = Colour(9, False, primaries=9, transfer=16)
HLG = Colour(9, False, primaries=9, transfer=18)
WIDE = Colour(9, False, primaries=9, transfer=14)
P3 = Colour(1, False, primaries=12, transfer=13)
FOREIGN = {"pq": PQ, "hlg": HLG, "wide": WIDE, "p3": P3}


def greys(*values: float) -> Pixels:
    """(1, n, 3)."""
    return np.repeat(np.array(values, dtype=np.float32)[None, :, None], 3, axis=2)


def grey_working(code: Pixels, colour: Colour) -> list[float]:
    """Working levels in [0, 1] of grey codes in [0, 1]."""
    return list(to_working(code * 2 - 1, colour)[0, :, 1] * 0.5 + 0.5)


def test_pq_is_the_standards() -> None:
    """ST 2084, and BT.2408-7, table 1: 58 % for reference white, 75 % for 1000 cd/m²."""
    light = greys(0, 0.1, 1, 10, 100, 203, 1000, 4000, 10_000)
    expected = [0, 0.0623, 0.1499, 0.2997, 0.5081, 0.5807, 0.7518, 0.9026, 1]
    assert pq_code(light)[0, :, 0] == pytest.approx(expected, abs=1e-4)
    assert pq_light(pq_code(light))[0, 1:, 0] == pytest.approx(light[0, 1:, 0], rel=2e-4)


def test_hlg_is_the_standards() -> None:
    """BT.2100-2, table 5, and BT.2408-7: 75 % is reference white, and 1000 cd/m² the peak."""
    light = hlg_light(greys(0, 0.5, 0.75, 1))
    assert light[0, :, 0] == pytest.approx([0, 1000 * (1 / 12) ** 1.2, 203, 1000], abs=0.3)
    codes = greys(*np.linspace(0, 1, 101))
    assert np.abs(hlg_code(hlg_light(codes)) - codes).max() < 2e-5


def test_the_hlg_display_keeps_hues() -> None:
    """The system gamma is of the luminance: a red at half the light has the chromaticity it had."""
    bright = np.array([[(0.75, 0.5, 0.25)]], dtype=np.float32)
    scene = bright**2 / 3
    scene[0, 0, 0] = (np.exp((0.75 - 0.55991073) / 0.17883277) + 0.28466892) / 12
    assert hlg_light(bright)[0, 0] / hlg_light(bright)[0, 0, 1] == pytest.approx(
        scene[0, 0] / scene[0, 0, 1], rel=1e-3
    )


@pytest.mark.parametrize("kind", FOREIGN)
@given(seed=st.integers(0, 2**32 - 1), contrast=st.floats(0.05, 1), brightness=st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_there_and_back(kind: str, seed: int, contrast: float, brightness: float) -> None:
    """Colours come back to the level of 10 bits: one beside others that are a thousand times as bright."""
    colour = FOREIGN[kind]
    rng = np.random.default_rng(seed)
    middle = brightness * (1 - contrast)
    codes = (middle + contrast * rng.uniform(0.02, 1, (8, 8, 3))).astype(np.float32)
    codes[0, 0], codes[0, 1] = 0, 1
    back = from_working(to_working(codes * 2 - 1, colour), colour) * 0.5 + 0.5
    assert np.abs(back - codes).max() * 1023 < 2
    assert np.abs(back - codes).mean() * 1023 < 0.03


@pytest.mark.parametrize("kind", FOREIGN)
def test_the_purest_colours_come_back(kind: str) -> None:
    """Beyond BT.709: a channel without light has what float32 leaves of the others, which nobody sees."""
    colour = FOREIGN[kind]
    corners = np.stack(np.meshgrid(*[(0.0, 0.5, 1.0)] * 3), axis=-1).reshape(1, 27, 3).astype(np.float32)
    there = to_working(corners * 2 - 1, colour)
    assert there.min() < -1.5
    back = from_working(there, colour) * 0.5 + 0.5
    light = back if kind in ("wide", "p3") else pq_light(back) if kind == "pq" else hlg_light(back)
    wanted = corners if kind in ("wide", "p3") else pq_light(corners) if kind == "pq" else hlg_light(corners)
    assert np.abs(light - wanted).max() < 2e-4 * wanted.max()


@pytest.mark.parametrize("kind", FOREIGN)
def test_grey_stays_grey_and_rises(kind: str) -> None:
    codes = greys(*np.linspace(0, 1, 1024))
    working = to_working(codes * 2 - 1, FOREIGN[kind])
    assert np.ptp(working, axis=2).max() < 2e-3
    assert (np.diff(working[0, :, 1]) > 0).all()
    assert working.min() == pytest.approx(-1, abs=1e-4)
    assert working.max() == pytest.approx(1.22 if kind == "pq" else 1, abs=5e-3)


def test_faces_have_ordinary_brightness() -> None:
    """Below the shoulder light is at sRGB's level of its part of 300 cd/m²; 1000 are at 1."""
    light = np.array((2, 20, 60, 100, 180), dtype=np.float32)
    srgb = 1.055 * (light / 300) ** (1 / 2.4) - 0.055
    assert grey_working(pq_code(greys(*light)), PQ) == pytest.approx(srgb, abs=1e-3)
    assert grey_working(hlg_code(greys(*light)), HLG) == pytest.approx(srgb, abs=1e-3)
    white, twice, bright, brightest = grey_working(pq_code(greys(203, 406, 1000, 4000)), PQ)
    assert 0.8 < white < 0.85 < twice < 0.95
    assert bright == pytest.approx(1, abs=1e-3)
    assert 1.05 < brightest < 1.1


def test_skin_has_the_colour_it_has_in_ordinary_video() -> None:
    """A BT.709 colour, written in BT.2020 light and PQ, is the sRGB colour again."""
    srgb = np.array((0.70, 0.55, 0.47))
    light = ((srgb + 0.055) / 1.055) ** 2.4
    to_2020 = np.array(  # ITU-R BT.2087-0, section 2
        [(0.6274, 0.3293, 0.0433), (0.0691, 0.9195, 0.0114), (0.0164, 0.0880, 0.8956)]
    )
    code = pq_code((300 * (to_2020 @ light)).astype(np.float32).reshape(1, 1, 3))
    assert to_working(code * 2 - 1, PQ)[0, 0] * 0.5 + 0.5 == pytest.approx(srgb, abs=2e-3)


def test_wild_results_of_a_network_stay_levels() -> None:
    wild = np.random.default_rng(5).uniform(-6, 6, (16, 16, 3)).astype(np.float32)
    for colour in FOREIGN.values():
        levels = from_working(wild, colour)
        assert np.isfinite(levels).all()
        assert np.abs(levels).max() <= 1


@pytest.mark.parametrize(
    "colour",
    [
        Colour(1, False, primaries=1, transfer=1),
        Colour(6, True),
        Colour(9, False, primaries=9, transfer=2),  # nobody says what its levels mean
        Colour(9, False, primaries=9, transfer=8),
    ],
)
def test_ordinary_video_stays_as_it_is(colour: Colour) -> None:
    pixels = np.random.default_rng(0).uniform(-1, 1, (4, 4, 3)).astype(np.float32)
    assert not is_foreign(colour)
    assert to_working(pixels, colour) is pixels
    assert from_working(pixels, colour) is pixels


def test_hdr_that_does_not_name_its_primaries_is_bt2020() -> None:
    pixels = np.random.default_rng(0).uniform(-1, 1, (4, 4, 3)).astype(np.float32)
    silent = Colour(9, False, transfer=16)
    assert np.array_equal(to_working(pixels, silent), to_working(pixels, PQ))
