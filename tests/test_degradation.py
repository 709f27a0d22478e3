"""The synthetic degradation: its ranges, its operations against references, its determinism."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable

import cv2
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from gpenvideo import degradation as dg
from gpenvideo.degradation import Degradation, Film, degrade, draw
from gpenvideo.errors import OptionError

DRAWS = 10_000


def smooth_picture(height: int = 96, width: int = 80, seed: int = 0) -> NDArray[np.float32]:
    """A picture with structure at every scale, in colour, in [0, 1]."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for sigma in (1, 3, 9):
        layer = scipy.ndimage.gaussian_filter(rng.standard_normal((height, width, 3)), (sigma, sigma, 0))
        total += layer / layer.std()
    return np.clip(0.5 + 0.12 * total, 0, 1).astype(np.float32)


def flat(value: float, side: int = 256) -> NDArray[np.float32]:
    return np.full((side, side, 3), value, np.float32)


def through_pillow(image: NDArray[np.float32], **options: object) -> NDArray[np.float32]:
    """The picture rounded to 8 bits, written as a 4:2:0 JPEG by Pillow and read again."""
    file = io.BytesIO()
    Image.fromarray(np.rint(image * 255).astype(np.uint8)).save(file, "jpeg", subsampling=2, **options)
    return np.asarray(Image.open(file), np.float32) / 255


# The ranges


@pytest.fixture(scope="module")
def base_draws() -> list[Degradation]:
    rng = np.random.default_rng(0)
    return [draw(rng) for _ in range(DRAWS)]


def assert_fills(values: list[float], low: float, high: float) -> None:
    """The values stay within the range and come within 1 % of it to both ends."""
    near = 0.01 * (high - low)
    assert low <= min(values) <= low + near
    assert high - near <= max(values) <= high


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("blur_sigma_px", 0, 3),
        ("motion_length_px", 1, 25),
        ("motion_angle_deg", 0, 180),
        ("down_scale", 2, 16),
        ("gamma", 0.7, 1.4),
        ("contrast", 0.7, 1.3),
        ("noise_levels", 0, 25),
        ("jpeg_quality", 10, 100),
    ],
)
def test_ten_thousand_draws_fill_the_specified_range(
    base_draws: list[Degradation], name: str, low: float, high: float
) -> None:
    values = [value for one in base_draws if (value := getattr(one, name)) is not None]
    assert_fills(values, low, high)
    span = dg.RANGES[name]
    assert (span.low, span.high) == (low, high)
    deviation = np.sqrt(DRAWS * span.probability * (1 - span.probability))
    assert abs(len(values) - DRAWS * span.probability) <= 4 * deviation


def test_scale_is_log_uniform_and_quality_uniform(base_draws: list[Degradation]) -> None:
    scales = np.log([one.down_scale for one in base_draws if one.down_scale is not None])
    uniform = scipy.stats.uniform(np.log(2), np.log(8))
    assert scipy.stats.kstest(scales, uniform.cdf).pvalue > 1e-3
    qualities = [one.jpeg_quality for one in base_draws if one.jpeg_quality is not None]
    assert set(qualities) == set(range(10, 101))


def test_operations_happen_in_every_combination(base_draws: list[Degradation]) -> None:
    optional = ("blur_sigma_px", "motion_length_px", "down_scale", "noise_levels", "jpeg_quality")
    seen = {tuple(getattr(one, name) is None for name in optional) for one in base_draws}
    assert len(seen) == 2 ** len(optional)
    assert {one.up_filter for one in base_draws} == {"bilinear", "bicubic"}
    assert {one.late for one in base_draws} == {one.noise_grey for one in base_draws} == {False, True}


def test_mild_is_base_with_a_small_scale() -> None:
    mild = [draw(np.random.default_rng(seed), "mild") for seed in range(2000)]
    assert_fills([one.down_scale for one in mild if one.down_scale is not None], 2, 4)
    base = [draw(np.random.default_rng(seed)) for seed in range(2000)]
    assert [dataclasses.replace(one, down_scale=None) for one in mild] == [
        dataclasses.replace(one, down_scale=None) for one in base
    ]


def test_film_is_base_with_film_on_top() -> None:
    films = [draw(np.random.default_rng(seed), "film") for seed in range(DRAWS)]
    for one, seed in zip(films[:200], range(200), strict=True):
        assert dataclasses.replace(one, film=None) == draw(np.random.default_rng(seed))
    film = [one.film for one in films if one.film is not None]
    assert len(film) == DRAWS
    assert {one.grey for one in film} == {False, True}
    for name, span in dg.FILM_RANGES.items():
        if name.startswith("weave"):
            values = [one.weave_px[name == "weave_y_px"] for one in film if one.weave_px is not None]
        else:
            values = [value for one in film if (value := getattr(one, name)) is not None]
        assert_fills(values, span.low, span.high)


@pytest.mark.parametrize("preset", ["base", "mild", "film"])
def test_colour_off_leaves_everything_else(preset: dg.Preset) -> None:
    for seed in range(300):
        full = draw(np.random.default_rng(seed), preset)
        plain = draw(np.random.default_rng(seed), preset, colour=False)
        film = full.film and dataclasses.replace(full.film, flicker_gain=None, flicker_tilt=0.0)
        assert plain == dataclasses.replace(full, gamma=None, contrast=None, film=film)


# Determinism and the contract of degrade


@pytest.mark.parametrize("preset", ["base", "mild", "film"])
def test_same_seed_same_bytes(preset: dg.Preset) -> None:
    image = smooth_picture()
    image.flags.writeable = False  # an operation in place would raise

    def outputs(threads: int) -> list[bytes]:
        before = cv2.getNumThreads()
        cv2.setNumThreads(threads)
        try:
            made = []
            for seed in range(40):
                rng = np.random.default_rng(seed)
                made.append(degrade(image, draw(rng, preset), rng).tobytes())
        finally:
            cv2.setNumThreads(before)
        return made

    first = outputs(1)
    np.random.seed(7)
    assert outputs(2) == first
    assert len(set(first)) == 40


@pytest.mark.parametrize("shape", [(64, 64, 3), (31, 50, 3), (16, 9, 3)])
@pytest.mark.parametrize("preset", ["base", "film"])
def test_shape_dtype_and_range_are_kept(shape: tuple[int, int, int], preset: dg.Preset) -> None:
    image = smooth_picture(*shape[:2])
    for seed in range(60):
        rng = np.random.default_rng(seed)
        parameters = draw(rng, preset)
        out = degrade(image, parameters, rng)
        assert out.shape == shape
        assert out.dtype == np.float32
        assert out.min() >= 0
        assert out.max() <= 1
        eight = degrade(np.rint(image * 255).astype(np.uint8), parameters, np.random.default_rng(seed))
        assert eight.shape == shape
        assert eight.dtype == np.uint8


def test_eight_bits_and_floats_agree() -> None:
    parameters = Degradation(blur_sigma_px=1.5, down_scale=3, gamma=1.2, contrast=0.8, noise_levels=10)
    eight = np.rint(smooth_picture() * 255).astype(np.uint8)
    a = degrade(eight, parameters, np.random.default_rng(3))
    b = degrade(eight.astype(np.float32) / 255, parameters, np.random.default_rng(3))
    assert np.abs(a / 255 - b).max() <= 0.51 / 255


def test_nothing_to_do_returns_an_equal_copy() -> None:
    image = smooth_picture()
    out = degrade(image, Degradation(), np.random.default_rng(0))
    assert np.array_equal(out, image)
    assert not np.shares_memory(out, image)
    eight = np.rint(image * 255).astype(np.uint8)
    assert np.array_equal(degrade(eight, Degradation(), np.random.default_rng(0)), eight)


def test_noise_is_as_coarse_as_the_frame_unless_late() -> None:
    def neighbours(late: bool) -> float:
        parameters = Degradation(down_scale=8, noise_levels=20, late=late)
        out = degrade(flat(0.5), parameters, np.random.default_rng(0))[..., 0]
        return float(np.corrcoef(out[:, :-1].ravel(), out[:, 1:].ravel())[0, 1])

    assert neighbours(late=False) > 0.9
    assert abs(neighbours(late=True)) < 0.02


def test_blur_comes_before_the_down_sampling() -> None:
    image = smooth_picture(96, 96)
    parameters = Degradation(blur_sigma_px=2, motion_length_px=9, motion_angle_deg=30, down_scale=4)
    chain = dg.motion_blur(dg.gaussian_blur(image, 2), 9, 30)
    expected = dg.up_sample(dg.down_sample(chain, 4), 96, 96, "bilinear")
    out = degrade(image, parameters, np.random.default_rng(0))
    assert np.allclose(out, np.clip(expected, 0, 1))


def test_grey_film_stays_neutral_to_the_end() -> None:
    image = smooth_picture()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        parameters = draw(rng, "film")
        out = degrade(image, parameters, rng)
        if parameters.grey:
            assert np.ptp(out, axis=2).max() <= 1.01 / 255
        else:
            assert np.ptp(out, axis=2).max() > 0.02


@pytest.mark.parametrize(
    "make",
    [
        lambda: Degradation(blur_sigma_px=-1),
        lambda: Degradation(motion_length_px=0.5),
        lambda: Degradation(down_scale=0.5),
        lambda: Degradation(jpeg_quality=0),
        lambda: Degradation(noise_levels=float("nan")),
        lambda: Degradation(up_filter="nearest"),  # type: ignore[arg-type]
        lambda: Film(codec_quality=101),
        lambda: draw(np.random.default_rng(0), "strong"),  # type: ignore[arg-type]
        lambda: degrade(np.zeros((8, 8), np.uint8), Degradation(), np.random.default_rng(0)),
        lambda: degrade(np.zeros((8, 8, 3)), Degradation(), np.random.default_rng(0)),  # type: ignore[type-var]
    ],
)
def test_impossible_options_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(OptionError, match=r"must|is|preset"):
        make()


# Each operation against a reference


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.2, 3.0])
def test_gaussian_blur_is_scipys(sigma: float) -> None:
    image = smooth_picture()
    expected = scipy.ndimage.gaussian_filter(image.astype(float), (sigma, sigma, 0), mode="mirror")
    assert np.abs(dg.gaussian_blur(image, sigma) - expected).max() < 1e-5


@pytest.mark.parametrize("length", [1, 3, 5, 15, 25])
def test_motion_along_an_axis_is_a_box(length: int) -> None:
    expected = np.zeros((length, length))
    expected[length // 2] = 1 / length
    assert np.abs(dg.motion_kernel(length, 0) - expected).max() < 1e-6
    assert np.abs(dg.motion_kernel(length, 90) - expected.T).max() < 1e-6


@settings(deadline=None)
@given(length=st.floats(1, 25), angle=st.floats(0, 180))
def test_motion_kernel_is_a_segment_of_that_length_and_angle(length: float, angle: float) -> None:
    kernel = dg.motion_kernel(length, angle).astype(float)
    side = kernel.shape[0]
    assert side % 2 == 1
    assert side <= 25
    assert kernel.min() >= 0
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    assert np.allclose(kernel, kernel[::-1, ::-1], atol=1e-6)  # no shift of the picture
    y, x = np.mgrid[:side, :side] - side // 2
    moments = np.array([[(kernel * a * b).sum() for a in (x, y)] for b in (x, y)])
    along = np.array([np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))])
    across = np.array([-along[1], along[0]])
    # An even segment's variance is length^2 / 12; pixels blur it by a fraction of one.
    assert along @ moments @ along == pytest.approx(length**2 / 12, abs=0.25 + 0.05 * length)
    assert across @ moments @ across <= 0.3


@pytest.mark.parametrize(("length", "angle"), [(25, 45), (25, 0), (18.5, 100), (4.2, 70), (11, 140)])
def test_motion_blur_is_scipys_correlation(length: float, angle: float) -> None:
    image = smooth_picture()
    kernel = dg.motion_kernel(length, angle).astype(float)
    expected = scipy.ndimage.correlate(image.astype(float), kernel[..., None], mode="mirror")
    assert np.abs(dg.motion_blur(image, length, angle) - expected).max() < 1e-5


@pytest.mark.parametrize("scale", [2, 4, 2.37, 5.9, 16])
def test_down_sampling_averages_areas(scale: float) -> None:
    image = smooth_picture()

    def averaged(values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
        """Means over `count` equal stretches of axis 0: differences of the running integral."""
        integral = np.concatenate([np.zeros((1, *values.shape[1:])), np.cumsum(values, 0)])
        cuts = np.linspace(0, len(values), count + 1)
        whole = np.minimum(cuts.astype(int), len(values) - 1)
        part = (cuts - whole)[:, None, None]
        at_cuts = integral[whole] * (1 - part) + integral[whole + 1] * part
        return np.diff(at_cuts, axis=0) * count / len(values)

    rows = averaged(image.astype(float), round(96 / scale))
    expected = averaged(rows.swapaxes(0, 1), round(80 / scale)).swapaxes(0, 1)
    out = dg.down_sample(image, scale)
    assert out.shape == expected.shape
    # OpenCV leaves out the parts of a source pixel below a thousandth, hence not exact.
    assert np.abs(out - expected).max() < 2e-3


@pytest.mark.parametrize("kind", ["bilinear", "bicubic"])
def test_up_sampling_is_torchs(kind: dg.UpFilter) -> None:
    small = smooth_picture(24, 17)
    batch = torch.from_numpy(small.transpose(2, 0, 1)[None].copy())
    expected = torch.nn.functional.interpolate(batch, (100, 90), mode=kind, align_corners=False)[0]
    out = dg.up_sample(small, 100, 90, kind)
    assert np.abs(out - expected.numpy().transpose(1, 2, 0)).max() < 1e-3


def test_gamma_and_contrast() -> None:
    image = smooth_picture()
    assert np.abs(dg.adjust_gamma(image, 1.3) - image.astype(float) ** 1.3).max() < 1e-5
    expected = np.clip((image.astype(float) - 0.5) * 1.25 + 0.5, 0, 1)
    assert np.abs(dg.adjust_contrast(image, 1.25) - expected).max() < 1e-6


def test_noise_is_gaussian_white_and_of_its_size() -> None:
    noise = (dg.gaussian_noise(flat(0.5), 20, np.random.default_rng(1)) - 0.5).astype(float) * 255
    assert scipy.stats.kstest(noise.ravel() / 20, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(noise.reshape(-1, 3).T)[0, 1]) < 0.02
    assert abs(np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1]) < 0.01
    grey = dg.gaussian_noise(flat(0.5), 20, np.random.default_rng(1), grey=True)
    assert np.ptp(grey, axis=2).max() == 0
    assert grey.std() * 255 == pytest.approx(20, rel=0.02)


@pytest.mark.parametrize("quality", [10, 35, 75, 100])
def test_jpeg_is_pillows(quality: int) -> None:
    image = smooth_picture()
    difference = np.abs(dg.jpeg(image, quality) - through_pillow(image, quality=quality))
    assert difference.max() <= 3.01 / 255
    assert difference.mean() < 0.1 / 255


@pytest.mark.parametrize("quality", [15, 60])
def test_codec_is_pillows_jpeg_with_a_coarser_chroma_table(quality: int) -> None:
    image = smooth_picture() * 0.6 + 0.2

    def tables(quality: int) -> dict[int, list[int]]:
        file = io.BytesIO()
        Image.new("RGB", (8, 8)).save(file, "jpeg", quality=quality)
        return Image.open(file).quantization  # type: ignore[attr-defined, no-any-return]

    expected = through_pillow(image, qtables=[tables(quality)[0], tables(quality // 2)[1]])
    assert np.abs(dg.codec(image, quality) - expected).mean() < 0.5 / 255
    assert np.abs(dg.jpeg(image, quality) - expected).mean() > 1 / 255


def test_jpeg_block_offset_moves_the_blocks() -> None:
    image = smooth_picture()
    padded = np.pad(image, ((5, 0), (3, 0), (0, 0)), mode="reflect")
    expected = dg.jpeg(padded, 20)[5:, 3:]
    assert np.array_equal(dg.jpeg(image, 20, block_offset_px=(3, 5)), expected)


# Film


def test_greyscale_is_pillows() -> None:
    eight = np.rint(smooth_picture() * 255).astype(np.uint8)
    expected = np.asarray(Image.fromarray(eight).convert("L"), np.float32)
    out = dg.greyscale(eight.astype(np.float32) / 255)
    assert np.ptp(out, axis=2).max() == 0
    assert np.abs(out[..., 0] * 255 - expected).max() <= 1


@pytest.mark.parametrize("size", [0.5, 1.0, 1.4])
def test_grain_is_correlated_and_largest_at_mid_grey(size: float) -> None:
    def field(value: float) -> NDArray[np.float32]:
        return (dg.grain(flat(value, 400), 12, size, np.random.default_rng(2)) - value)[..., 0] * 255

    taps = np.exp(-(np.arange(-10, 11) ** 2) / (2 * size**2))
    middle = field(0.5)
    assert middle.std() == pytest.approx(12, rel=0.04)
    for lag in (1, 2):
        measured = np.corrcoef(middle[:, :-lag].ravel(), middle[:, lag:].ravel())[0, 1]
        assert measured == pytest.approx(taps[lag:] @ taps[:-lag] / (taps @ taps), abs=0.03)
    assert field(0.1).std() == pytest.approx(12 * (0.2 + 3.2 * 0.09), rel=0.06)
    assert field(0.9).std() == pytest.approx(field(0.1).std(), rel=0.1)
    assert field(1.0).std() < 2


def test_scratches_are_upright_thin_and_as_many_as_said() -> None:
    counts = []
    for seed in range(60):
        out = dg.scratches(flat(0.5, 200), 2.0, np.random.default_rng(seed))[..., 0]
        change = np.abs(out - 0.5) > 0.05
        for rows, columns in scipy.ndimage.find_objects(scipy.ndimage.label(change)[0]):
            height, width = rows.stop - rows.start, columns.stop - columns.start
            counts.append(height)
            if height > 50:
                assert width < height / 2
                assert change[rows, columns].sum(1).mean() < 12  # a few px, more where two meet
    # 4 in the mean; some lie wholly above or below, some meet.
    assert 2.5 < len(counts) / 60 < 4.6
    assert np.median(counts) > 60
    assert max(counts) == 200


def test_dust_is_small_spots_white_and_black_as_many_as_said() -> None:
    number, areas, bright, dark = 0, [], 0, 0
    for seed in range(40):
        out = dg.dust(flat(0.5, 200), 0.5, np.random.default_rng(seed))[..., 0]
        labels, count = scipy.ndimage.label(np.abs(out - 0.5) > 0.1)
        number += count
        areas += np.bincount(labels.ravel())[1:].tolist()
        bright, dark = bright + (out > 0.6).sum(), dark + (out < 0.4).sum()
    assert number / 40 == pytest.approx(20, rel=0.15)
    assert np.percentile(areas, 90) < 40
    assert min(bright, dark) > 0.3 * max(bright, dark)
    assert np.array_equal(dg.dust(flat(0.5), 0.0, np.random.default_rng(0)), flat(0.5))


def test_flicker_is_a_gain_with_a_ramp() -> None:
    out = dg.flicker(flat(0.5, 101), 1.2, 0.1)
    assert out[0].max() == pytest.approx(0.5 * 1.2 * 0.9, abs=1e-5)
    assert out[50].max() == pytest.approx(0.5 * 1.2, abs=1e-5)
    assert out[100].max() == pytest.approx(0.5 * 1.2 * 1.1, abs=1e-5)
    assert dg.flicker(flat(0.9, 8), 1.25, 0.0).max() == 1


@pytest.mark.parametrize(("x", "y"), [(0.5, -0.25), (-0.75, 0.6), (2, 0)])
def test_weave_is_scipys_shift(x: float, y: float) -> None:
    image = smooth_picture()
    expected = scipy.ndimage.shift(image.astype(float), (y, x, 0), order=1, mode="nearest")
    assert np.abs(dg.weave(image, x, y) - expected).max() < 0.01  # OpenCV may round to 1/32 px


def test_interlace_moves_the_fields_apart() -> None:
    image = smooth_picture()
    out = dg.interlace(image, 6)
    assert np.allclose(out[0::2, 3:], image[0::2, :-3], atol=1e-6)
    assert np.allclose(out[1::2, :-3], image[1::2, 3:], atol=1e-6)


def test_field_shift_is_in_pixels_of_the_face() -> None:
    """The lines are the frame's, twice as high here; the motion is the face's."""
    image = smooth_picture(96, 96)
    out = degrade(image, Degradation(down_scale=2, film=Film(field_shift_px=8)), np.random.default_rng(0))
    frame = dg.interlace(dg.down_sample(image, 2), 4)
    assert np.allclose(out, np.clip(dg.up_sample(frame, 96, 96, "bilinear"), 0, 1))
