"""Fields: whether pictures are whole, and what is made of those that are not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import write_clip, write_sequence
from combs import FAST, SHAKEN, SLOW, TURNED, ZOOMED, Take, yuv

from gpenvideo import load, restore_video
from gpenvideo.degradation.camera import CameraPath, Key
from gpenvideo.errors import OptionError
from gpenvideo.faces.tracker import KEEP
from gpenvideo.frame import Frame
from gpenvideo.networks import load_detector
from gpenvideo.pipeline import RestoreOptions
from gpenvideo.video.fields import Verdict, fields_of, judged
from gpenvideo.video.options import Decoding, Encoding
from gpenvideo.video.pixels import planes_of
from gpenvideo.video.reader import VideoReader
from gpenvideo.video.writer import VideoWriter

KINDS = ("progressive", "tff", "bff", "telecined", "mixed")
X264 = {"codec": "libx264", "options": {"crf": "23"}}
MPEG2 = {"codec": "mpeg2video", "options": {"b": "900000"}}
CLIPS: list[tuple[str, Take, str, str | None, dict[str, Any]]] = [
    *[("slow", Take(SLOW), kind, None, {}) for kind in KINDS],
    *[("fast, odd size", Take(FAST, (131, 97)), kind, None, {}) for kind in KINDS],
    *[("shaken, 4:2:2", Take(SHAKEN, (176, 144), pix_fmt="yuv422p"), kind, None, {}) for kind in KINDS],
    *[("zoomed, noise", Take(ZOOMED, noise=4), kind, None, {}) for kind in KINDS],
    *[("turned, MPEG-2 said to be top first", Take(TURNED), kind, "tff", MPEG2) for kind in KINDS],
    *[("fast, x264 said to be bottom first", Take(FAST), kind, "bff", X264) for kind in KINDS],
    *[("zoomed, x264 said to be whole", Take(ZOOMED, (144, 112)), kind, None, X264) for kind in KINDS],
    *[("fast, half of it still, grain", Take(FAST, noise=10, still=0.5), kind, None, {}) for kind in KINDS],
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fields")


@pytest.fixture(scope="module")
def fast(folder: Path) -> Callable[..., Path]:
    """A clip of fast motion, of a kind."""

    def made(kind: str, **more: Any) -> Path:
        path = folder / f"{kind}.mkv"
        return path if path.exists() else Take(FAST).write(path, kind, **more)

    return made


def frames_of(path: Path, **decoding: Any) -> tuple[VideoReader, list[Frame]]:
    with Decoding(**decoding).open(path) as reader:
        return reader, [item for item in reader if isinstance(item, Frame)]


def psnr_db(one: Any, other: Any) -> float:
    error = np.mean((one.astype(np.float64) - other.astype(np.float64)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def test_forty_clips_are_known_for_what_they_are(folder: Path) -> None:
    assert len(CLIPS) == 40
    wrong = []
    for number, (name, take, kind, flag, more) in enumerate(CLIPS):
        found = fields_of(take.write(folder / f"{number}.mkv", kind, flag, **more))
        if found.kind != kind or (found.is_combed and found.first != ("bff" if kind == "bff" else "tff")):
            wrong.append((name, kind, found))
    assert wrong == []


def test_credits_that_roll_are_no_combs(tmp_path: Path) -> None:
    """FFmpeg's idet by itself takes whole pictures that move by two rows each for combed."""
    import cv2

    roll = np.zeros((400, 160), np.uint8)
    for line, words in enumerate(("Directed by", "Anna Bell", "Camera", "Lee Wong", "Music", "E. Klein") * 2):
        cv2.putText(roll, words, (10, 25 + 32 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 255, 1)

    def rolled(number: int) -> av.VideoFrame:
        rows = np.ascontiguousarray(np.roll(roll, -2 * number, axis=0)[:120])
        return yuv(np.repeat(rows[..., None], 3, axis=2), "yuv420p")

    found = fields_of(write_clip(tmp_path / "credits.mkv", size=(160, 120), frames=40, picture=rolled))
    assert found.combed > 30
    assert not found.is_combed


def test_info_tells_what_the_pictures_are(fast: Callable[..., Path], said: Callable[..., Any]) -> None:
    for kind in ("bff", "progressive"):
        told = said("info", fast(kind), "--json")
        (stream,) = json.loads(told.out)["streams"]
        assert stream["fields"] == kind


def test_kinds_that_differ_from_place_to_place_are_mixed() -> None:
    still = [Verdict("undetermined", "neither")] * 40
    whole = [Verdict("progressive", "neither")] * 40
    top, bottom = ([Verdict(order, "neither", True)] * 40 for order in ("tff", "bff"))
    assert judged([still, top, still]).kind == "tff"
    assert judged([still, still]).kind == "still"
    assert judged([whole, top, whole]).kind == "mixed"
    assert judged([top, bottom]).kind == "mixed"
    assert judged([bottom, bottom]).first == "bff"
    faint = [Verdict("tff", "neither")] * 40
    assert not judged([faint, whole], "progressive").is_combed
    assert judged([faint, faint], "tff").kind == "tff"


def test_a_long_file_is_looked_at_in_five_places(tmp_path: Path) -> None:
    """Combs in the last minute alone are found; no more than two hundred pictures are looked at."""
    take = Take(FAST, (64, 48))

    def picture(number: int) -> av.VideoFrame:
        return take.woven("tff" if number >= 1100 else "progressive", number % 48)

    path = write_clip(tmp_path / "long.mkv", size=(64, 48), frames=1500, gop=10, picture=picture)
    found = fields_of(path)
    assert found.kind == "mixed"
    assert found.pictures <= 200


def test_whole_pictures_are_left_bit_exact(fast: Callable[..., Path]) -> None:
    path = fast("progressive")
    with VideoReader(path) as plain:
        expected = [item for item in plain if isinstance(item, Frame)]
    reader, frames = frames_of(path)
    assert reader.info == plain.info
    assert reader.warnings == plain.warnings == []
    assert [frame.pts for frame in frames] == [frame.pts for frame in expected]
    for frame, other in zip(frames, expected, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(frame.planes, other.planes, strict=True))


@pytest.mark.parametrize("kind", ["tff", "bff"])
@pytest.mark.parametrize("way", ["auto", "w3fdif", "yadif"])
def test_combed_pictures_become_whole_ones(fast: Callable[..., Path], kind: str, way: str) -> None:
    take = Take(FAST)
    reader, frames = frames_of(fast(kind), deinterlace=way)
    _, combed = frames_of(fast(kind), deinterlace="off")
    assert [frame.pts for frame in frames] == [frame.pts for frame in combed]
    assert (reader.info.field_order, reader.info.rate_hz) == ("progressive", Fraction(30000, 1001))
    (said,) = reader.warnings
    assert f"{'top' if kind == 'tff' else 'bottom'} field first (48 of 48 looked at)" in said
    assert f"deinterlaced by {'bwdif' if way == 'auto' else way}" in said
    truth = [planes_of(take.progressive(number))[0] for number in range(48)]
    better = [psnr_db(a.planes[0], t[0]) for a, t in zip(frames, truth, strict=True)]
    before = [psnr_db(a.planes[0], t[0]) for a, t in zip(combed, truth, strict=True)]
    assert np.mean(better) > 35
    assert np.mean(better) > np.mean(before) + 9


def test_each_field_may_become_a_picture_at_its_own_time(fast: Callable[..., Path]) -> None:
    take = Take(FAST)
    reader, frames = frames_of(fast("tff"), deinterlace="bwdif:field")
    assert len(frames) == 96
    assert reader.info.rate_hz == Fraction(60000, 1001)
    assert reader.info.time_base == Fraction(1, 2000)
    times = [float(frame.pts * frame.time_base) for frame in frames]
    assert np.allclose(times, np.arange(96) * 1001 / 60000, atol=1e-3)
    sharp = [
        psnr_db(frame.planes[0], planes_of(yuv(take.moment(n), "yuv420p"))[0][0])
        for n, frame in enumerate(frames)
    ]
    assert np.mean(sharp) > 35


def test_a_variable_rate_stays_variable_by_field(tmp_path: Path) -> None:
    pts = [0, 40, 80, 200, 240, 300, 310, 400]
    path = Take(FAST, pictures=8).write(
        tmp_path / "v.mkv", "tff", pts=pts, time_base=Fraction(1, 1000), rate=25
    )
    _, frames = frames_of(path, deinterlace="bwdif:field")
    seconds = [frame.pts * frame.time_base * 1000 for frame in frames]
    halves = [(a + b) / 2 for a, b in pairwise(pts)]
    assert seconds[0::2] == pts
    assert seconds[1:-1:2] == halves
    _, whole = frames_of(path, deinterlace="bwdif")
    assert [frame.pts for frame in whole] == pts


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p10le"])
def test_telecined_film_is_the_film_again_bit_for_bit(tmp_path: Path, pix_fmt: str) -> None:
    take = Take(FAST, pix_fmt=pix_fmt.removesuffix("10le"))

    def deep(picture: av.VideoFrame) -> av.VideoFrame:
        return picture.reformat(format=pix_fmt, threads=1)

    path = write_clip(
        tmp_path / "film.mkv",
        size=take.size,
        frames=45,
        rate=Fraction(30000, 1001),
        pix_fmt=pix_fmt,
        picture=lambda number: deep(take.woven("telecined", number)),
    )
    reader, frames = frames_of(path)
    assert "film at 3:2" in reader.warnings[0]
    assert (reader.info.rate_hz, reader.info.pixel_format) == (Fraction(24000, 1001), pix_fmt)
    assert len(frames) == 36
    times = [float(frame.pts * frame.time_base) for frame in frames]
    assert np.allclose(times, np.arange(36) * 1001 / 24000, atol=1.1e-3)
    for number, frame in enumerate(frames):
        film = planes_of(deep(take.film(number)))[0]
        assert all(np.array_equal(a, b) for a, b in zip(frame.planes, film, strict=True)), number


def test_gaps_in_telecined_film_stay_where_they_are(tmp_path: Path) -> None:
    """The times of the result are the source's at every fifth picture: sound stays in step."""
    pts = [*range(0, 20), *range(50, 70)]
    path = Take(FAST, pictures=40).write(
        tmp_path / "gap.mkv", "telecined", pts=pts, time_base=Fraction(1001, 30000)
    )
    _, frames = frames_of(path, ivtc=True)
    starts = [float(frame.pts * frame.time_base) for frame in frames[::4]]
    assert np.allclose(starts, [pts[n] * 1001 / 30000 for n in range(0, 40, 5)], atol=1.1e-3)


def test_of_mixed_material_whole_pictures_stay_as_they_are(fast: Callable[..., Path]) -> None:
    take = Take(FAST)
    reader, frames = frames_of(fast("mixed"))
    assert "combed in part" in reader.warnings[0]
    exact = 0
    for number, frame in enumerate(frames):
        truth = planes_of(take.progressive(number))[0]
        assert psnr_db(frame.planes[0], truth[0]) > 30, number  # no combs are left
        exact += all(np.array_equal(a, b) for a, b in zip(frame.planes, truth, strict=True))
    assert exact >= 18  # of 24


def test_combs_with_faces_to_be_restored_are_refused(fast: Callable[..., Path]) -> None:
    with pytest.raises(
        OptionError, match="combed, and faces cannot be restored in combs: leave --deinterlace"
    ):
        Decoding(deinterlace="off").open(fast("tff"), restores=True)
    Decoding(deinterlace="off").open(fast("tff")).close()
    Decoding(deinterlace="off").open(fast("progressive"), restores=True).close()
    by_hand = Decoding(deinterlace="off", prefilter="bwdif=mode=send_frame", prefilter_output=True)
    by_hand.open(fast("tff"), restores=True).close()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"deinterlace": "nnedi"}, "deinterlacing is one of auto, off, bwdif, .*bwdif:field"),
        ({"deinterlace": "bwdif:twice"}, "deinterlacing is one of"),
        ({"deinterlace": "auto:field"}, "deinterlacing is one of"),
        ({"deinterlace": "bwdif:field", "ivtc": True}, "leave the field rate"),
    ],
)
def test_what_there_is_not_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        Decoding(**options)


def test_parts_and_turned_pictures_are_deinterlaced_too(tmp_path: Path) -> None:
    path = Take(FAST).write(tmp_path / "turned.mov", "tff", rotation=90, **X264 | {"gop": 6})
    reader, whole = frames_of(path)
    assert reader.info.rotation_deg == 270
    part, frames = frames_of(path, start=Fraction(4, 10), end=Fraction(8, 10))
    assert part.shift_s == Fraction(4, 10)
    shifted = [frame for frame in whole if 0.3995 <= frame.time_s < 0.7995]
    assert [frame.pts * frame.time_base + Fraction(2, 5) for frame in frames] == pytest.approx(
        [frame.pts * frame.time_base for frame in shifted], abs=1e-4
    )
    for frame, other in zip(frames, shifted, strict=True):
        assert np.array_equal(frame.planes[0], other.planes[0])


def test_a_result_says_that_it_is_whole(tmp_path: Path) -> None:
    """A source that is said to be of fields, and whose result is not."""
    source = Take(FAST).write(tmp_path / "in.mkv", "tff", "tff", **X264)
    assert VideoReader(source).info.field_order == "tt"
    for name, decoding in (("out.mkv", Decoding()), ("field.mp4", Decoding(deinterlace="w3fdif:field"))):
        target = tmp_path / name
        with decoding.open(source) as reader, VideoWriter(target, reader, preset="ultrafast") as writer:
            for item in reader:
                writer.write(item)
        with VideoReader(target) as made:
            assert made.info.field_order == "progressive"
            assert not made.first.interlaced_frame
            assert fields_of(target).kind == "progressive"


def test_flags_without_combs_stay(tmp_path: Path) -> None:
    source = Take(FAST).write(tmp_path / "in.mkv", "progressive", "tff", **X264)
    with (
        Decoding().open(source) as reader,
        VideoWriter(tmp_path / "out.mkv", reader, preset="ultrafast") as writer,
    ):
        assert reader.info.field_order == "tt"
        assert reader.warnings == []
        for item in reader:
            writer.write(item)
    assert VideoReader(tmp_path / "out.mkv").info.field_order == "tt"


def test_what_is_restored_is_as_near_to_the_truth_as_of_whole_pictures(
    tmp_path: Path, one_thread: None
) -> None:
    """The default weights on a soft, noisy face: of fields, of film at 3:2, and of whole pictures."""
    path = CameraPath((Key(0, 0.42, 0.22, 0.4), Key(0.6, 0.47, 0.24, 0.36)))
    clean = Take(path, (192, 144), pictures=15)
    worn = replace(clean, blur_px=1.0, noise=6)
    networks: dict[str, Any] = {
        "weights": load(device="cpu"),
        "detector": load_detector(device="cpu", threshold=KEEP),
    }

    def restored_db(
        source: Path, truth: Callable[[int], av.VideoFrame], count: int, **decoding: Any
    ) -> float:
        target, masks = tmp_path / f"out.{source.name}", tmp_path / "masks.jsonl"
        restore_video(
            source,
            target,
            options=RestoreOptions(grain="none"),
            decoding=Decoding(**decoding),
            encoding=Encoding(codec="ffv1"),
            report_frames=masks,
            **networks,
        )
        boxes = [json.loads(line)["masks"] for line in masks.read_text().splitlines()]
        _, frames = frames_of(target, deinterlace="off")
        pairs = []
        for number, (frame, [(x0, y0, x1, y1)]) in enumerate(zip(frames, boxes, strict=True)):
            sides = frame.planes[0], planes_of(truth(number))[0][0]
            pairs.append([side[y0:y1, x0:x1].ravel() for side in sides])
        assert len(pairs) == count
        return psnr_db(*(np.concatenate(side) for side in zip(*pairs, strict=True)))

    whole_db = restored_db(worn.write(tmp_path / "whole.mkv", "progressive"), clean.progressive, 15)
    fields_db = restored_db(worn.write(tmp_path / "fields.mkv", "tff"), clean.progressive, 15)
    telecined = worn.write(tmp_path / "telecined.mkv", "telecined")
    film_db = restored_db(telecined, clean.film, 12, ivtc=True)
    film = write_clip(tmp_path / "film.mkv", size=worn.size, frames=12, rate=24, picture=worn.film)
    assert fields_db > whole_db - 0.5
    assert film_db > restored_db(film, clean.film, 12) - 0.5


def test_film_in_other_colours_than_yuv_is_refused(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "rgb.mkv", pix_fmt="bgr0")
    with pytest.raises(OptionError, match="inverse telecine takes YUV"):
        Decoding(ivtc=True).open(path)
    folder = write_sequence(tmp_path / "pictures")
    with pytest.raises(OptionError, match="inverse telecine takes YUV"):
        Decoding(ivtc=True).open(folder)
    deep = write_clip(tmp_path / "grey.mkv", pix_fmt="gray10le")
    with pytest.raises(OptionError, match="bwdif does not take these pictures as they are: choose w3fdif"):
        Decoding(deinterlace="bwdif").open(deep)
    reader, _ = frames_of(deep, deinterlace="w3fdif")
    assert reader.info.pixel_format == "gray10le"
