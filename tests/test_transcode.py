"""Videos restored from file to file: what is touched, what is not, and what is told."""

from __future__ import annotations

import json
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from portraits import Same, decoded_planes, portrait_clip, shot

import gpenvideo
from gpenvideo import OptionError
from gpenvideo.face import Face
from gpenvideo.faces.tracker import KEEP
from gpenvideo.networks import load_detector
from gpenvideo.pipeline import RestoreOptions
from gpenvideo.transcode import Decoding, Encoding, Progress, preview_video, restore_video

FFV1 = Encoding(codec="ffv1")
LAYOUTS = [  # pixel format, size, full range
    ("yuv420p", (320, 240), False),
    ("yuv420p", (427, 241), False),
    ("yuvj420p", (320, 240), True),
    ("yuv422p", (427, 241), False),
    ("yuv444p", (427, 241), True),
    ("yuv411p", (320, 240), False),
    ("yuv420p10le", (320, 240), False),
    ("yuv444p10le", (427, 241), True),
    ("yuv422p12le", (320, 240), False),
    ("nv12", (320, 240), False),
    ("gbrp10le", (320, 240), True),
    ("gray", (320, 240), True),
]


@pytest.fixture(scope="module")
def detector() -> object:
    return load_detector(device="cpu", threshold=KEEP)


def masks_of(path: Path) -> dict[int, list[list[int]]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {line["pts"]: line["masks"] for line in lines}


def outside(shape: tuple[int, int], luma: tuple[int, int], masks: list[list[int]]) -> NDArray[np.bool_]:
    """Where a plane of a frame lies outside all masks; a chroma sample is inside if any of its luma is."""
    down, across = -(-luma[0] // shape[0]), -(-luma[1] // shape[1])
    mark = np.ones((shape[0] * down, shape[1] * across), dtype=bool)
    for x0, y0, x1, y1 in masks:
        mark[y0:y1, x0:x1] = False
    return mark.reshape(shape[0], down, shape[1], across).all(axis=(1, 3))


@pytest.mark.parametrize(("pix_fmt", "size", "full_range"), LAYOUTS, ids=str)
def test_untouched_means_untouched(
    pix_fmt: str, size: tuple[int, int], full_range: bool, tmp_path: Path, detector: object
) -> None:
    """Outside the masks every sample is the decoder's; inside, a painted face is there."""
    codec = "rawvideo" if pix_fmt == "nv12" else "mjpeg" if pix_fmt == "yuvj420p" else "ffv1"
    source = portrait_clip(
        tmp_path / "in.nut",
        pix_fmt=pix_fmt,
        size=size,
        frames=9,
        codec=codec,
        faceless_from=6,
        full_range=full_range,
    )
    report = restore_video(
        source,
        tmp_path / "out.mkv",
        weights=Same(64, paint=-0.9),
        detector=detector,  # type: ignore[arg-type]
        encoding=FFV1,
        report_frames=tmp_path / "frames.jsonl",
    )
    assert (report.written, len(report.shots_s), report.faces_per_frame) == (9, 2, {1: 6, 0: 3})
    before, after = decoded_planes(source), decoded_planes(tmp_path / "out.mkv")
    masks = masks_of(tmp_path / "frames.jsonl")
    assert list(masks) == list(before)
    for was, now, marked in zip(before.values(), after.values(), masks.values(), strict=True):
        if pix_fmt == "nv12":
            was = [was[0], was[1][:, ::2], was[1][:, 1::2]]
        assert len(was) == len(now)
        changed = 0
        for a, b in zip(was, now, strict=True):
            away = outside(a.shape, was[0].shape, marked)
            assert np.array_equal(a[away], b[away])
            changed += int((a != b).sum())
        assert bool(changed) == bool(marked)


def oval(face: Face, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The ellipse in a face's box."""
    left, top, right, bottom = face.box.tolist()
    y, x = np.mgrid[: shape[0], : shape[1]]
    across, along = (2 * x - left - right) / (right - left), (2 * y - top - bottom) / (bottom - top)
    return np.asarray(across**2 + along**2 <= 1)


@pytest.mark.parametrize("name", ["ffhq", "gpen"])
def test_a_mask_covers_the_face_and_little_else(name: str, tmp_path: Path, detector: object) -> None:
    source = portrait_clip(tmp_path / "in.mkv", size=(320, 240), frames=4)
    restore_video(
        source,
        tmp_path / "out.mkv",
        weights=Same(128, paint=-0.9, name=name),
        detector=detector,  # type: ignore[arg-type]
        encoding=FFV1,
        report_frames=tmp_path / "frames.jsonl",
    )
    with av.open(str(source)) as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
    (face,) = (face for face in detector([picture])[0] if face.score > 0.9)  # type: ignore[operator]
    ((x0, y0, x1, y1),) = masks_of(tmp_path / "frames.jsonl")[0]
    box = float(np.prod(face.box[2:] - face.box[:2]))
    assert (x1 - x0) * (y1 - y0) <= 3 * box
    was, now = decoded_planes(source)[0][0], decoded_planes(tmp_path / "out.mkv")[0][0]
    inside = oval(face, was.shape)
    assert (was != now)[inside].mean() >= 0.85


def test_a_restorer_that_changes_nothing_hardly_changes_a_face(tmp_path: Path, detector: object) -> None:
    source = portrait_clip(tmp_path / "in.mkv", size=(320, 240), frames=4)
    restore_video(
        source,
        tmp_path / "out.mkv",
        weights=Same(256),
        detector=detector,  # type: ignore[arg-type]
        encoding=FFV1,
        report_frames=tmp_path / "frames.jsonl",
    )
    before, after = decoded_planes(source), decoded_planes(tmp_path / "out.mkv")
    for pts, ((x0, y0, x1, y1),) in masks_of(tmp_path / "frames.jsonl").items():
        was, now = (planes[pts][0][y0:y1, x0:x1].astype(int) for planes in (before, after))
        assert np.abs(was - now).mean() <= 1.0


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("aspect", [None, Fraction(16, 15), Fraction(64, 45)])
def test_turned_and_anamorphic_videos_find_the_same_face(
    rotation: int, aspect: Fraction | None, tmp_path: Path, detector: object
) -> None:
    """Stored turned and squeezed, shown upright in square pixels: the same face in the same place."""
    stretch = float(aspect or 1)
    width = round(384 / stretch / 2) * 2
    upright = shot("yuv444p", (384, 288))

    def squeezed(number: int) -> av.VideoFrame:
        import cv2

        rgb = upright(number).to_ndarray(format="rgb24")
        rgb = cv2.resize(rgb, (width, 288), interpolation=cv2.INTER_AREA)
        turned = np.ascontiguousarray(np.rot90(rgb, -rotation // 90))
        return av.VideoFrame.from_ndarray(turned, format="rgb24").reformat(format="yuv444p", threads=1)

    turned = rotation % 180 != 0
    from clips import write_clip

    shown = {} if aspect is None else {"sample_aspect": 1 / aspect if turned else aspect}
    source = write_clip(
        tmp_path / "in.mov",
        codec="libx264",
        options={"preset": "ultrafast", "crf": "10", "threads": "1"},
        pix_fmt="yuv444p",
        size=(288, width) if turned else (width, 288),
        frames=3,
        picture=squeezed,
        rotation=rotation,
        **shown,  # type: ignore[arg-type]
    )
    twin = portrait_clip(tmp_path / "twin.mkv", pix_fmt="yuv444p", size=(384, 288), frames=3)
    found = {}
    for name, clip in (("turned", source), ("twin", twin)):
        from gpenvideo.analysis import Analysed, Analysis
        from gpenvideo.frame import Frame
        from gpenvideo.video.reader import VideoReader

        with VideoReader(clip) as reader:
            assert abs(reader.info.upright_size[0] - 384) <= 1
            frames = (item for item in reader if isinstance(item, Frame))
            analysed = list(Analysis(detector, reader.info)(frames))  # type: ignore[arg-type]
        assert all(isinstance(item, Analysed) and len(item.tracks) == 1 for item in analysed)
        found[name] = np.stack([item.tracks[0].face.landmarks for item in analysed])
    eyes = np.linalg.norm(found["twin"][:, 0] - found["twin"][:, 1], axis=1).mean()
    assert np.abs(found["turned"] - found["twin"]).max() < 0.1 * eyes
    restore_video(
        source,
        tmp_path / "out.mov",
        weights=Same(64, paint=-0.9),
        detector=detector,  # type: ignore[arg-type]
        encoding=Encoding(codec="libx264", preset="ultrafast"),
        report_frames=tmp_path / "frames.jsonl",
    )
    ((x0, y0, x1, y1),) = masks_of(tmp_path / "frames.jsonl")[0]
    middle = (slice((3 * y0 + y1) // 4, (y0 + 3 * y1) // 4), slice((3 * x0 + x1) // 4, (x0 + 3 * x1) // 4))
    was, now = (decoded_planes(path)[0][0][middle].astype(int) for path in (source, tmp_path / "out.mov"))
    assert np.abs(np.diff(now)).mean() < 0.4 * np.abs(np.diff(was)).mean()  # eyes and nose are painted over


def test_the_report_tells_what_was_done(tmp_path: Path, detector: object) -> None:
    source = portrait_clip(tmp_path / "in.mkv", frames=8, faceless_from=5)
    told: list[Progress] = []
    report = restore_video(
        source,
        tmp_path / "out.mkv",
        weights=Same(64),
        detector=detector,  # type: ignore[arg-type]
        encoding=FFV1,
        report=tmp_path / "report.json",
        progress=told.append,
    )
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["frames"]["written"] == written["frames"]["decoded"] == 8
    assert written["faces_per_frame"] == {"1": 5, "0": 3}
    assert [track["frames"] for track in written["tracks"]] == [5]
    assert written["shots_s"] == [0.0, pytest.approx(0.2)]
    assert {"decode", "shots", "detect", "crop", "network", "paste", "encode"} <= set(written["stages_s"])
    assert written["versions"]["gpenvideo"]
    assert written["fps"] == pytest.approx(8 / written["seconds"])
    assert [progress.frames for progress in told] == list(range(9))
    assert report.written == 8
    assert not [t for t in threading.enumerate() if t.name.startswith("gpenvideo")]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mkv", "out.mkv", "report.json"]


def test_an_error_leaves_nothing_behind(tmp_path: Path, detector: object) -> None:
    class Broken(Same):
        def __call__(self, pixels: object) -> object:  # type: ignore[override]
            raise OptionError("this network is broken")

    source = portrait_clip(tmp_path / "in.mkv", frames=8)
    (tmp_path / "out.mkv").write_text("an earlier result")
    with pytest.raises(OptionError, match="broken"):
        restore_video(
            source,
            tmp_path / "out.mkv",
            weights=Broken(),  # type: ignore[arg-type]
            detector=detector,  # type: ignore[arg-type]
            report=tmp_path / "report.json",
            report_frames=tmp_path / "frames.jsonl",
        )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mkv", "out.mkv"]
    assert (tmp_path / "out.mkv").read_text() == "an earlier result"
    assert not [t for t in threading.enumerate() if t.name.startswith("gpenvideo")]


def test_a_part_is_what_the_whole_has_there(tmp_path: Path, detector: object) -> None:
    source = portrait_clip(tmp_path / "in.mkv", frames=12)
    for name, decoding in (("whole", Decoding()), ("part", Decoding(start=4, end=9))):
        restore_video(
            source,
            tmp_path / f"{name}.mkv",
            weights=Same(64, paint=0.0),
            detector=detector,  # type: ignore[arg-type]
            options=RestoreOptions(strength=0),
            decoding=decoding,
            encoding=FFV1,
            report_frames=tmp_path / f"{name}.jsonl",
        )
    whole, part = (list(decoded_planes(tmp_path / f"{name}.mkv").values()) for name in ("whole", "part"))
    assert len(part) == 5
    for a, b in zip(whole[4:9], part, strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    pts = list(masks_of(tmp_path / "whole.jsonl"))
    assert list(masks_of(tmp_path / "part.jsonl")) == pts[4:9]  # ticks of the source


@pytest.mark.parametrize(("how", "size"), [("side", (640, 240)), ("wipe", (320, 240))])
def test_a_comparison_shows_both(how: str, size: tuple[int, int], tmp_path: Path, detector: object) -> None:
    source = portrait_clip(tmp_path / "in.mkv", frames=3)
    restore_video(
        source,
        tmp_path / "out.mkv",
        weights=Same(64, paint=-0.9),
        detector=detector,  # type: ignore[arg-type]
        encoding=FFV1,
        compare=how,
        report_frames=tmp_path / "frames.jsonl",
    )
    was, now = decoded_planes(source)[0][0], decoded_planes(tmp_path / "out.mkv")[0][0]
    assert now.shape == size[::-1]
    left, right = now[:, : size[0] // 2], now[:, size[0] // 2 :]
    if how == "side":
        assert np.array_equal(left, was)
        assert (right != was).any()
    else:
        assert np.array_equal(left, was[:, :160])
        assert (right != was[:, 160:]).any()


def test_a_preview_is_one_picture_of_both(tmp_path: Path, detector: object) -> None:
    source = portrait_clip(tmp_path / "in.mkv", frames=6, faceless_from=4)
    common = {"weights": Same(64, paint=-0.9), "detector": detector}
    assert preview_video(source, tmp_path / "a.png", 2, **common) == 1  # type: ignore[arg-type]
    assert preview_video(source, tmp_path / "b.png", Fraction(1, 5), **common) == 0  # type: ignore[arg-type]
    picture = gpenvideo.picture.read_picture(tmp_path / "a.png").rgb  # type: ignore[attr-defined]
    assert picture.shape == (240, 640, 3)
    assert (picture[:, :320] != picture[:, 320:]).any()
    with pytest.raises(gpenvideo.GpenvideoError):
        preview_video(source, tmp_path / "c.png", Fraction(9), **common)  # type: ignore[arg-type]
