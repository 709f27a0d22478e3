"""Filter graphs: as FFmpeg reads them, between a decoder and its frames."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import noise_frame, write_clip
from combs import weave
from films import RATE_HZ, SIZE, assert_same, film_frame
from hypothesis import given
from hypothesis import strategies as st
from portraits import Same, portrait_clip

from gpenvideo import OptionError, restore_video
from gpenvideo.batch.settings import work_of
from gpenvideo.faces.tracker import KEEP
from gpenvideo.frame import Frame
from gpenvideo.networks import load_detector
from gpenvideo.pipeline import RestoreOptions
from gpenvideo.segmented.parts import parts
from gpenvideo.segmented.restoring import Warm, analyse, join, restore_part
from gpenvideo.segmented.work import Work
from gpenvideo.video.filters import FilterGraph, available, memory_frames, parse_graph
from gpenvideo.video.options import Decoding, Encoding
from gpenvideo.video.reader import VideoReader

FFV1 = Encoding(codec="ffv1")
SIZES = (64, 48)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "noise.mkv", size=SIZES, frames=30)


def through(text: str, pix_fmt: str = "yuv420p", pictures: int = 12) -> list[Any]:
    graph = FilterGraph(text, rate_hz=Fraction(25))

    def made() -> Iterator[Any]:
        for number in range(pictures):
            picture = noise_frame(pix_fmt, SIZES, number)
            picture.pts, picture.time_base, picture.duration = number, Fraction(1, 25), 1
            yield from graph(picture)
        yield from graph.finish()

    return list(made())


def frames_of(path: Path, **decoding: Any) -> tuple[VideoReader, list[Frame]]:
    with Decoding(**decoding).open(path) as reader:
        return reader, [item for item in reader if isinstance(item, Frame)]


def same(one: Frame, other: Frame) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one.planes, other.planes, strict=True))


def test_what_is_there_is_known() -> None:
    assert all(map(available, ("idet", "bwdif", "w3fdif", "fieldmatch", "decimate", "nlmeans", "deband")))
    assert not any(map(available, ("hqdn3d", "vidstabtransform", "pullup", "zscale", "libplacebo")))


def test_graphs_are_read_as_ffmpeg_reads_them() -> None:
    ((box, flip),) = parse_graph(" drawbox@one = 'x=1:y=2' :w=5 , hflip ")
    assert (box.name, box.arguments) == ("drawbox", "x=1:y=2 :w=5")
    assert (flip.name, flip.arguments) == ("hflip", "")
    first, second = parse_graph(r"[in]split[a][b];[b]select=gt(scene\,0.1)[c]")
    assert first[0].inputs == ("in",)
    assert first[0].outputs == ("a", "b")
    assert (second[0].arguments, second[0].outputs) == ("gt(scene,0.1)", ("c",))


@given(st.text(alphabet="null,hflip=;[]a'\\ :1", max_size=30))
def test_whatever_is_written_is_read_or_refused(text: str) -> None:
    try:
        chains = parse_graph(text)
    except OptionError:
        return
    assert all(available(node.name) for chain in chains for node in chain)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hqdn3d", "no filter 'hqdn3d': there is nlmeans"),
        ("zscale=t=linear", "no filter 'zscale': there is scale"),
        ("nlmean", "no filter 'nlmean': did you mean nlmeans"),
        ("qqqq", "no filter 'qqqq': there are nlmeans"),
        ("", "a place without a filter"),
        ("null,,null", "a place without a filter"),
        ("[a null", "a label that does not end"),
        ("null[a]x", "cannot be read from 'x' on"),
        ("nlmeans=strength=2", "nlmeans does not take 'strength=2'"),
        ("split", "one output is to be left open, there are 2"),
        ("blend", "one input is to be left open, there are 2"),
        ("null;null", "one input is to be left open, there are 2"),
        ("[a][b]hflip", "hflip has 1 inputs"),
        ("split[a][b][c]", "split has 2 outputs"),
        ("volume=2", "does not work on these pictures"),
        ("crop=9999:9999", "does not work on these pictures"),
    ],
)
def test_what_is_no_graph_is_refused_in_a_line(text: str, words: str) -> None:
    with pytest.raises(OptionError) as caught:
        through(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pictures_go_through() -> None:
    before = through("null")
    for text in ("hflip", "[in]split[a][b];[a]hflip[c];[b]nullsink", "[x]null[y];[y]hflip"):
        after = through(text)
        assert [picture.pts for picture in after] == list(range(12))
        for one, other in zip(before, after, strict=True):
            assert np.array_equal(one.to_ndarray(format="gray")[:, ::-1], other.to_ndarray(format="gray"))
    assert len(through("fps=50")) == 24
    assert len(through("trim=end_frame=5")) == 5
    assert through("scale=32:24")[0].width == 32


def test_how_far_a_graph_looks_back() -> None:
    assert memory_frames("nlmeans=s=2,deband") == 0
    assert memory_frames("bwdif,nlmeans") == 2
    assert memory_frames("deflicker") is None
    assert memory_frames("crop=32:24") == 0
    assert memory_frames("crop=32:24:n:0") is None


def test_a_prefilter_alone_is_only_looked_at(clip: Path) -> None:
    _, plain = frames_of(clip)
    reader, frames = frames_of(clip, prefilter="hflip")
    assert "'hflip' are looked at, and not written" in reader.warnings[0]
    for frame, other in zip(frames, plain, strict=True):
        assert same(frame, other)
        assert frame.pts == other.pts
        assert frame.filtered is not None
        assert frame.view is frame.filtered
        assert all(
            np.array_equal(a[:, ::-1], b) for a, b in zip(frame.planes, frame.filtered.planes, strict=True)
        )
    _, delayed = frames_of(clip, prefilter="tmix=frames=3,deflicker")
    assert [frame.pts for frame in delayed] == [frame.pts for frame in plain]
    assert all(map(same, delayed, plain))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fps=50", "changes the rate, the times or the number"),
        ("setpts=2*PTS", "changes the rate, the times or the number"),
        ("select='not(mod(n,2))'", "changes the rate, the times or the number"),
        ("scale=32:24", "makes 32x24 of 64x48"),
        ("setparams=range=full", "changes what the samples mean"),
        ("trim=end=0", "gives no pictures"),
    ],
)
def test_a_prefilter_alone_may_change_samples_only(clip: Path, text: str, words: str) -> None:
    with pytest.raises(OptionError, match=words) as caught:
        Decoding(prefilter=text).open(clip)
    assert "--prefilter-output" in str(caught.value)


def test_a_prefilter_that_drops_pictures_later_is_refused_then(clip: Path) -> None:
    with (
        Decoding(prefilter="select='lt(n,25)'").open(clip) as reader,
        pytest.raises(OptionError, match="gives fewer pictures than it takes"),
    ):
        list(reader)
    with (
        Decoding(prefilter="select='not(eq(n,25))'").open(clip) as reader,
        pytest.raises(OptionError, match="gives other pictures than it takes"),
    ):
        list(reader)


def test_a_prefilters_pictures_may_be_the_stream(clip: Path, tmp_path: Path) -> None:
    wide = write_clip(
        tmp_path / "wide.mov", codec="libx264", size=SIZES, frames=30, sample_aspect=Fraction(4, 3)
    )
    reader, frames = frames_of(wide, prefilter="hflip,scale=32:48,fps=50", prefilter_output=True)
    info = reader.info
    assert "taken for the picture" in reader.warnings[0]
    assert (info.width, info.height, info.sample_aspect) == (32, 48, Fraction(8, 3))
    assert (info.rate_hz, info.time_base, info.frames) == (50, Fraction(1, 50), 60)
    assert all(frame.filtered is None for frame in frames)
    assert [frame.pts for frame in frames] == list(range(60))
    part, some = frames_of(
        clip, prefilter="hflip,fps=50", prefilter_output=True, start=Fraction(4, 10), end=0.8
    )
    assert part.shift_s == Fraction(4, 10)
    assert [frame.pts for frame in some] == list(range(20))
    film = write_clip(tmp_path / "film.mkv", size=SIZES, frames=12, rate=Fraction(24000, 1001))
    for graph, rate_hz in (("null", Fraction(24000, 1001)), ("fps=50", 50), ("bwdif", Fraction(48000, 1001))):
        reader, _ = frames_of(film, prefilter=graph, prefilter_output=True)
        assert reader.info.rate_hz == rate_hz, graph


def test_pixel_formats_stay_unless_they_are_asked_for(tmp_path: Path) -> None:
    deep = write_clip(tmp_path / "deep.mkv", pix_fmt="yuv422p10le", frames=4)
    reader, _ = frames_of(deep, prefilter="deband", prefilter_output=True)
    assert reader.info.pixel_format == "yuv422p10le"
    assert len(reader.warnings) == 1
    reader, _ = frames_of(deep, prefilter="removegrain=4", prefilter_output=True)
    assert reader.info.pixel_format == "yuv422p10le"
    assert "works in 8 bits" in reader.warnings[1]
    reader, _ = frames_of(deep, prefilter="format=yuv420p", prefilter_output=True)
    assert reader.info.pixel_format == "yuv420p"


def test_pictures_of_other_sizes_are_brought_to_the_first_ones(tmp_path: Path) -> None:
    """Graphs take one size; raw streams may change theirs."""
    one, two = (
        write_clip(tmp_path / f"{size[0]}.264", codec="libx264", size=size, frames=6)
        for size in ((64, 48), (96, 80))
    )
    both = tmp_path / "both.264"
    both.write_bytes(one.read_bytes() + two.read_bytes())
    reader, frames = frames_of(both, prefilter="hflip", prefilter_output=True)
    assert {(frame.width, frame.height) for frame in frames} == {(64, 48)}
    assert len(frames) == 12
    assert reader.counts.refitted_frames == 6


@pytest.mark.parametrize("graph", ["hqdn3d", "nlmeans=strength=2"])
def test_a_broken_graph_stops_a_run_before_anything_is_written(
    graph: str, clip: Path, tmp_path: Path, said: Callable[..., Any]
) -> None:
    run = said("restore", clip, "-o", tmp_path / "out.mkv", "--prefilter", graph)
    assert run.code == 2
    assert graph.split("=")[0] in run.err
    assert list(tmp_path.iterdir()) == []
    run = said("restore", clip, "-o", tmp_path / "out.mkv", "--prefilter-output")
    assert (run.code, "no prefilter" in run.err) == (2, True)


def test_faces_are_found_in_what_the_prefilter_makes(tmp_path: Path) -> None:
    """A picture that is too dark to find a face in, and bright for the detector alone."""
    source = portrait_clip(tmp_path / "in.mkv", size=(160, 120), frames=4, codec="ffv1")
    dark = tmp_path / "dark.mkv"
    options: dict[str, Any] = {"weights": Same(64), "detector": load_detector(device="cpu", threshold=KEEP)}
    darken = Decoding(prefilter="lutyuv=y=16+(val-16)*0.04", prefilter_output=True)
    made = restore_video(
        source, dark, decoding=darken, encoding=FFV1, options=RestoreOptions(strength=0), **options
    )
    assert any("taken for the picture" in warning for warning in made.warnings)
    with VideoReader(dark) as reader:
        before = [item for item in reader if isinstance(item, Frame)]
    options["weights"] = Same(64, paint=0.5)
    blind = restore_video(dark, tmp_path / "blind.mkv", encoding=FFV1, **options)
    brighten = Decoding(prefilter="lutyuv=y=16+(val-16)*25")
    report, masks = tmp_path / "report.json", tmp_path / "masks.jsonl"
    seeing = restore_video(
        dark,
        tmp_path / "seen.mkv",
        decoding=brighten,
        encoding=FFV1,
        report=report,
        report_frames=masks,
        **options,
    )
    assert (blind.faces, seeing.faces) == (0, 4)
    assert json.loads(report.read_text())["options"]["decode"]["prefilter"] == "lutyuv=y=16+(val-16)*25"
    boxes = [json.loads(line)["masks"] for line in masks.read_text().splitlines()]
    with VideoReader(tmp_path / "seen.mkv") as reader:
        after = [item for item in reader if isinstance(item, Frame)]
    for frame, other, ((x0, y0, x1, y1),) in zip(before, after, boxes, strict=True):
        changed = frame.planes[0] != other.planes[0]
        assert changed[y0:y1, x0:x1].any()
        changed[y0:y1, x0:x1] = False
        assert not changed.any()


@pytest.mark.parametrize(
    "decoding",
    [
        Decoding(deinterlace="bwdif:field", prefilter="gblur=sigma=0.6"),
        Decoding(ivtc=True, prefilter="deflicker"),
        Decoding(
            start=Fraction(21, 10), deinterlace="w3fdif", prefilter="tmix=frames=3", prefilter_output=True
        ),
    ],
    ids=["by field", "film", "of a part"],
)
def test_segments_make_what_one_run_makes(decoding: Decoding, tmp_path: Path) -> None:
    def woven(number: int) -> av.VideoFrame:
        return weave(film_frame(number), film_frame(number + 1))

    source = write_clip(
        tmp_path / "film.mkv", size=SIZE, frames=90, rate=RATE_HZ, picture=woven, audio=1, gop=12
    )
    detector, restorer = load_detector(device="cpu", threshold=KEEP), Same(64, paint=0.2)
    options = RestoreOptions(detect_every=4 if decoding.deinterlace == "bwdif:field" else 2)
    one = tmp_path / "one.mkv"
    report = restore_video(
        source, one, weights=restorer, detector=detector, decoding=decoding, encoding=FFV1, options=options
    )
    assert report.faces > 50
    work, warm = (
        Work(str(source), decoding=decoding, encoding=FFV1, options=options),
        Warm(restorer, detector),
    )
    tracks = analyse(work, tmp_path / "tracks.json", warm)
    pieces = parts(tracks, 5)
    assert len(pieces) >= 2
    done = [
        restore_part(work, p, tmp_path / "tracks.json", tmp_path / f"{p.index}.nut", warm) for p in pieces
    ]
    facts = join(work, done, tmp_path / "joined.mkv")
    assert_same(one, tmp_path / "joined.mkv")
    assert facts["warnings"] == json.loads(report.as_json())["warnings"]


def test_settings_and_fingerprints_know_of_it() -> None:
    settings = {
        "deinterlace": "w3fdif:field",
        "prefilter": "nlmeans",
        "prefilter-output": True,
        "ivtc": False,
    }
    work = work_of("film.mkv", settings)
    assert work.decoding == Decoding(deinterlace="w3fdif:field", prefilter="nlmeans", prefilter_output=True)
    for other in ({"deinterlace": "off"}, {"ivtc": True}, {"prefilter": "nlmeans"}):
        assert work_of("film.mkv", other).fingerprint() != work_of("film.mkv", {}).fingerprint()
    with pytest.raises(OptionError, match="no filter 'hqdn3d'"):
        work_of("film.mkv", {"prefilter": "hqdn3d"})
