"""A portrait restored where it stands, and the promises around it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from gpenvideo import restore_aligned, restore_image, restore_picture
from gpenvideo.cli import main
from gpenvideo.errors import FaceError, OptionError
from gpenvideo.face import Face
from gpenvideo.faces.alignment import crop_from_frame, template
from gpenvideo.gpen import checkpoint
from gpenvideo.kernels.crop import crop
from gpenvideo.kernels.picture import as_frame
from gpenvideo.picture import read_picture
from gpenvideo.still import check_aligned

RUN = [sys.executable, "-m", "gpenvideo"]


@pytest.fixture(scope="module")
def astronaut() -> NDArray[np.uint8]:
    """A public-domain portrait, 512 x 512 (NASA, by way of scikit-image)."""
    from skimage.data import astronaut

    return np.asarray(astronaut())


ASTRONAUT_FACE = Face(
    box=(177.3, 53.2, 270.5, 178.5),
    landmarks=[(202.1, 101.6), (247.8, 103.5), (223.9, 128.3), (201.2, 139.9), (244.0, 141.6)],
    score=0.999,
)


class Same:
    """A restorer that changes nothing, or paints every face."""

    max_batch = 8

    def __init__(self, size_px: int = 128, paint: float | None = None, enlarge: int = 1) -> None:
        self.size_px, self.paint, self.enlarge = size_px, paint, enlarge
        self.template = template("gpen", size_px)

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        assert pixels.shape[1:] == (3, self.size_px, self.size_px)
        assert pixels.abs().max() <= 1
        y = torch.nn.functional.interpolate(pixels, scale_factor=self.enlarge, mode="bilinear")
        return y if self.paint is None else torch.full_like(y, self.paint)


class Found:
    """A detector that knows the answer."""

    def __init__(self, *faces: Face) -> None:
        self.faces = list(faces)

    def __call__(self, images: object) -> list[list[Face]]:
        return [self.faces for _ in images]  # type: ignore[attr-defined]


@pytest.mark.parametrize("enlarge", [1, 2])
@pytest.mark.parametrize("deep", [False, True])
def test_a_restorer_that_changes_nothing_changes_nothing(
    astronaut: NDArray[np.uint8], enlarge: int, deep: bool
) -> None:
    image = astronaut.astype(np.uint16) * 257 if deep else astronaut
    result = restore_image(image, Same(512, enlarge=enlarge), faces=[ASTRONAUT_FACE])
    assert result.dtype == image.dtype
    assert result.shape == image.shape
    unit = 257 if deep else 1
    difference = np.abs(result.astype(int) - image)
    assert float(difference.mean()) < 0.4 * unit  # two bilinear warps, nothing else
    assert float(np.quantile(difference, 0.99)) < 10 * unit


def test_outside_the_mask_every_pixel_is_the_pictures_own(astronaut: NDArray[np.uint8]) -> None:
    restorer = Same(128, paint=0.0)
    result = restore_image(astronaut, restorer, faces=[ASTRONAUT_FACE])
    matrix = crop_from_frame(ASTRONAUT_FACE.landmarks, restorer.template)
    corners = np.array([(0, 0), (0, 127), (127, 127), (127, 0)], float)
    linear = np.linalg.inv(matrix[:, :2])
    inside = (corners - matrix[:, 2]) @ linear.T
    low, high = np.floor(inside.min(axis=0)).astype(int), np.ceil(inside.max(axis=0)).astype(int)
    changed = (result != astronaut).any(axis=2)
    x0, y0, x1, y1 = (round(v) for v in ASTRONAUT_FACE.box)
    assert changed[y0:y1, x0:x1].mean() > 0.85
    outside = np.ones_like(changed)
    outside[low[1] : high[1] + 1, low[0] : high[0] + 1] = False
    assert not changed[outside].any()


def test_strength(astronaut: NDArray[np.uint8]) -> None:
    restorer = Same(128, paint=1.0)
    none, half, whole = (
        restore_image(astronaut, restorer, faces=[ASTRONAUT_FACE], strength=s).astype(int)
        for s in (0, 0.5, 1)
    )
    assert np.array_equal(none, astronaut)
    assert np.abs(half - (astronaut.astype(int) + whole) / 2).max() <= 1
    with pytest.raises(OptionError, match="strength"):
        restore_image(astronaut, restorer, faces=[ASTRONAUT_FACE], strength=1.5)


def test_no_face_is_said_not_hidden(astronaut: NDArray[np.uint8], tmp_path: Path) -> None:
    with pytest.raises(FaceError, match="no face"):
        restore_image(astronaut, Same(), detector=Found())
    Image.fromarray(astronaut).save(tmp_path / "a.png")
    with pytest.raises(FaceError) as caught:
        restore_picture(tmp_path / "a.png", tmp_path / "b.png", Same(), detector=Found())
    assert caught.value.path == str(tmp_path / "a.png")
    assert not (tmp_path / "b.png").exists()


@pytest.mark.parametrize("enlarge", [1, 2])
def test_an_aligned_face_comes_back_whole(astronaut: NDArray[np.uint8], enlarge: int) -> None:
    result = restore_aligned(astronaut, Same(512, enlarge=enlarge))
    assert result.shape == (512 * enlarge, 512 * enlarge, 3)
    if enlarge == 1:
        assert np.array_equal(result, astronaut)
    smaller = restore_aligned(astronaut, Same(128))
    means = astronaut.reshape(128, 4, 128, 4, 3).mean(axis=(1, 3))
    assert np.abs(smaller - means).mean() < 1.5
    assert np.array_equal(restore_aligned(astronaut, Same(512, paint=1.0), strength=0), astronaut)


def test_what_counts_as_aligned(astronaut: NDArray[np.uint8]) -> None:
    restorer = Same(256)
    with pytest.raises(FaceError, match="--face_align"):
        check_aligned(astronaut, restorer, Found(ASTRONAUT_FACE))
    with pytest.raises(FaceError, match="--face_align"):
        check_aligned(astronaut, restorer, Found())
    matrix = crop_from_frame(ASTRONAUT_FACE.landmarks, restorer.template)
    landmarks = ASTRONAUT_FACE.landmarks @ matrix[:, :2].T + matrix[:, 2]
    face = Face(box=(0, 0, 255, 255), landmarks=landmarks, score=0.9)
    aligned = np.rint((crop(as_frame(astronaut), matrix, 256) + 1) * 127.5).astype(np.uint8)
    check_aligned(aligned, restorer, Found(face))  # says nothing


def test_profile_orientation_and_alpha_go_along(astronaut: NDArray[np.uint8], tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[0x0112] = 6
    rgba = np.dstack([astronaut, np.full((512, 512), 77, np.uint8)])
    stored = np.ascontiguousarray(np.rot90(rgba))  # shown turned by 90 degrees clockwise: upright again
    Image.fromarray(stored).save(tmp_path / "a.png", exif=tags.tobytes(), icc_profile=b"a profile")
    count = restore_picture(tmp_path / "a.png", tmp_path / "b.png", Same(), detector=Found(ASTRONAUT_FACE))
    assert count == 1
    back = read_picture(tmp_path / "b.png")
    assert back.rgb.shape == astronaut.shape
    assert np.array_equal(back.rgb[300:], astronaut[300:])
    assert back.icc_profile == b"a profile"
    assert (back.alpha == 77).all()


# ---- the command line, as a person runs it ----


@pytest.fixture
def portrait(astronaut: NDArray[np.uint8], tmp_path: Path) -> Path:
    Image.fromarray(astronaut).save(tmp_path / "portrait.png")
    return tmp_path / "portrait.png"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*RUN, *map(str, arguments)], capture_output=True, text=True)


def detector_options(shared: Path) -> list[str | Path]:
    return ["--detector", shared / "data" / "weights" / "retinaface_mobilenet0.25_Final.pth"]


def test_restoring_a_portrait(shared: Path, network: Path, portrait: Path, tmp_path: Path) -> None:
    done = run(
        "restore", portrait, "-o", tmp_path / "out.png", "--weights", network, *detector_options(shared)
    )
    assert done.returncode == 0, done.stderr
    assert "1 face" in done.stdout
    result, source = read_picture(tmp_path / "out.png").rgb, read_picture(portrait).rgb
    assert (result != source)[50:180, 180:270].mean() > 0.5
    assert np.array_equal(result[300:], source[300:])


def test_restoring_a_folder_goes_on_past_a_bad_file(
    shared: Path, network: Path, portrait: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "in" / "deeper"
    folder.mkdir(parents=True)
    portrait.rename(folder / "b.png")
    (tmp_path / "in" / "a.png").write_bytes(b"no picture")
    Image.new("RGB", (300, 200)).save(tmp_path / "in" / "c.jpg")
    done = run(
        "restore",
        tmp_path / "in",
        "-o",
        tmp_path / "out",
        "--weights",
        network,
        "--json",
        *detector_options(shared),
    )
    assert done.returncode == 2
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert ["error" in line for line in lines] == [True, True, False]
    assert lines[2]["faces"] == 1
    assert (tmp_path / "out" / "deeper" / "b.png").exists()
    assert not (tmp_path / "out" / "a.png").exists()
    assert "2 of 3" in done.stderr
    assert "Traceback" not in done.stderr


def test_aligned_needs_no_detector(network: Path, portrait: Path, tmp_path: Path) -> None:
    done = run("restore", portrait, "-o", tmp_path / "out.webp", "--weights", network, "--aligned")
    assert done.returncode == 0, done.stderr
    assert read_picture(tmp_path / "out.webp").rgb.shape == (64, 64, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["restore", "IN", "-o", "OUT/a.png", "--weights", "NET", "--device", "cuda:99", "--aligned"],
            "CUDA devices",
        ),
        (["restore", "OUT/none.png", "-o", "OUT/a.png", "--weights", "NET", "--aligned"], "no such file"),
        (["restore", "IN", "-o", "OUT/a.png", "--weights", "IN", "--aligned"], "no weights file"),
        (["restore", "IN", "-o", "OUT/a.png", "--weights", "OUT", "--aligned"], "folder"),
        (["restore", "IN", "-o", "IN", "--weights", "NET", "--aligned"], "replace its source"),
        (["restore", "IN", "-o", "OUT/a.xyz", "--weights", "NET", "--aligned"], ".png"),
        (["restore", "IN", "-o", "OUT/a.png", "--weights", "NET", "--strength", "2"], "strength"),
        (["weights", "info", "IN"], "no weights file"),
        (["weights", "info", "no such name"], "weights"),
        (["weights", "pull", "no such name"], "the names are"),
        (["weights", "convert", "NET", "OUT/missing/a.pth"], "cannot write"),
    ],
)
def test_what_a_person_can_put_right_is_one_line_and_exit_2(
    arguments: list[str], message: str, network: Path, portrait: Path, tmp_path: Path
) -> None:
    places = {"IN": str(portrait), "OUT": str(tmp_path), "NET": str(network)}
    filled = [a if a in ("no such name",) else _fill(a, places) for a in arguments]
    done = run(*filled)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == [portrait]


@pytest.mark.parametrize("bad", ["cut", "empty", "text", "code", "other", "nan", "folder", "missing"])
@pytest.mark.parametrize("command", [["weights", "info"], ["weights", "convert"], ["restore"]], ids=" ".join)
def test_bad_weights_are_one_line_and_exit_2(
    bad: str,
    command: list[str],
    network: Path,
    portrait: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "bad.pth"
    if bad == "cut":
        file.write_bytes(network.read_bytes()[:5000])
    elif bad == "empty":
        file.touch()
    elif bad == "text":
        file.write_text("<html>404</html>")
    elif bad == "code":
        torch.save({"g_ema": subprocess.run}, file)
    elif bad == "other":
        torch.save({"conv.weight": torch.zeros(3)}, file)
    elif bad == "nan":
        state = torch.load(network, weights_only=True)
        torch.save(state | {"generator.to_rgb1.bias": torch.full((1, 3, 1, 1), torch.nan)}, file)
    elif bad == "folder":
        file.mkdir()
    rest: list[str | Path] = [file, tmp_path / "out.pth"] if command[-1] == "convert" else [file]
    if command == ["restore"]:
        rest = [portrait, "-o", tmp_path / "out.png", "--aligned", "--weights", file]
    monkeypatch.setattr(sys, "argv", ["gpenvideo", *command, *map(str, rest)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"gpenvideo: {file}: ")
    assert said.err.count("\n") == 1
    assert not (tmp_path / "out.pth").exists()
    assert not (tmp_path / "out.png").exists()


def _fill(argument: str, places: dict[str, str]) -> str:
    head, *rest = argument.split("/")
    return "/".join([places.get(head, head), *rest])


def test_converting_and_describing_weights(network: Path, tmp_path: Path) -> None:
    for target, options in (("a.safetensors", []), ("b.pth", ["--half"]), ("c.pth", ["--legacy"])):
        done = run("weights", "convert", network, tmp_path / target, *options)
        assert done.returncode == 0, done.stderr
        described = json.loads(run("weights", "info", tmp_path / target, "--json").stdout)
        assert described["layout"] == "gpen"
        assert described["input_resolution"] == 64
        assert described["stored_as"] == ("float16" if "--half" in options else "float32")
        x = torch.rand(1, 3, 64, 64) * 2 - 1
        close = 1e-2 if "--half" in options else 0
        assert (checkpoint.load(tmp_path / target)(x) - checkpoint.load(network)(x)).abs().max() <= close


def test_weights_list_names_what_is_not_free(tmp_path: Path) -> None:
    table = run("weights", "list")
    assert table.returncode == 0
    assert "NON-COMMERCIAL" in table.stdout
    entries = [json.loads(line) for line in run("weights", "list", "--json").stdout.splitlines()]
    assert {"GPEN-BFR-256", "GPEN-BFR-512", "GPEN-BFR-1024", "GPEN-BFR-2048"} <= {e["name"] for e in entries}
    assert all(e["non_commercial"] for e in entries if e["name"].startswith("GPEN-BFR"))


def test_a_licence_is_shown_before_anything_is_fetched(tmp_path: Path) -> None:
    done = run("weights", "pull", "GPEN-BFR-256", "--offline", "--folder", tmp_path)
    assert done.returncode == 2
    licence, error = [line for line in done.stderr.splitlines() if line]
    assert "NON-COMMERCIAL" in licence
    assert "offline" in error
    assert list(tmp_path.iterdir()) == []


def test_info_is_for_a_bug_report() -> None:
    facts = json.loads(run("info", "--json").stdout)
    assert facts["torch"] == torch.__version__.split("+")[0] or facts["torch"] == torch.__version__
    assert facts["precision"]["cpu"] in ("fp32", "bf16")
