"""Tracks that a person can edit: what is written comes back, what is edited is done, mistakes are told."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import write_clip
from hypothesis import given, settings
from hypothesis import strategies as st
from portraits import Same, decoded_planes, portrait, portrait_clip

from gpenvideo import (
    FileMissing,
    GpenvideoError,
    MediaError,
    OptionError,
    Track,
    Tracks,
    analyse_video,
    read_tracks,
    restore_video,
    write_tracks,
)
from gpenvideo.analysis import Analysed
from gpenvideo.face import Face, FaceTrack
from gpenvideo.faces.tracker import KEEP
from gpenvideo.frame import Colour, Frame, Layout, StreamInfo
from gpenvideo.networks import load_detector
from gpenvideo.picture import read_picture
from gpenvideo.pipeline import RestoreOptions
from gpenvideo.tracks.document import FACE, Source
from gpenvideo.tracks.sheet import MOST_ROWS, ContactSheet
from gpenvideo.transcode import Decoding, Encoding, preview_video

FFV1 = Encoding(codec="ffv1")
SOURCE = Source("film.mkv", 1234, 0, (640, 360), Fraction(1, 1000), None)


@pytest.fixture(scope="module")
def detector() -> Any:
    return load_detector(device="cpu", threshold=KEEP)


def two_faces(number: int) -> av.VideoFrame:
    """The portrait, and beside it its mirror image; they drift apart."""
    left = portrait(432)[:240, 110 - number : 270 - number]
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(np.hstack([left, left[:, ::-1]])), format="rgb24")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames with two faces, from 0.2 s on."""
    return write_clip(
        tmp_path_factory.mktemp("clip") / "in.mkv", size=(320, 240), frames=12, picture=two_faces,
        pts=[200 + 40 * number for number in range(12)], time_base=Fraction(1, 1000), audio=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(clip: Path, detector: Any) -> Tracks:
    """What is found in the clip."""
    return analyse_video(clip, detector=detector)


def faces_of(pts: list[int], seed: int = 0) -> np.ndarray:
    """Some faces that mean nothing, with all the digits that numbers can have."""
    rng = np.random.default_rng(seed)
    faces = np.zeros(len(pts), FACE)
    faces["pts"] = pts
    faces["box"] = np.sort(rng.normal(100, 300, (len(pts), 2, 2)), axis=1).reshape(-1, 4)
    faces["landmarks"] = rng.normal(100, 300, (len(pts), 5, 2))
    for name in ("opacity", "score", "missed_s"):
        faces[name] = rng.random(len(pts))
    return faces


def document() -> Tracks:
    """Two shots, three tracks."""
    tracks = (
        Track(1, 1, faces_of([0, 40, 80])),
        Track(2, 0, faces_of([40, 120], 1), skip=True),
        Track(7, 1, faces_of([200], 2), strength=0.25, weights="GPEN-BFR-512"),
    )
    return Tracks(SOURCE, 0, 240, 7, (0, 200), tracks)


# The file


finite = st.floats(-1e6, 1e6, width=32)
part = st.floats(0, 1)


@st.composite
def documents(draw: Callable[..., Any]) -> Tracks:
    shots = draw(st.lists(st.integers(-(10**9), 10**9), unique=True, max_size=4).map(sorted))
    tracks = []
    for id in draw(st.lists(st.integers(1, 10**6), unique=True, max_size=4)):
        shot = draw(st.integers(-1, len(shots) - 1))
        first = shots[shot] if shot >= 0 else -(10**10)
        end = shots[shot + 1] if shot + 1 < len(shots) else 10**10
        pts = draw(st.lists(st.integers(first, end - 1), min_size=1, max_size=4, unique=True).map(sorted))
        faces = np.zeros(len(pts), FACE)
        faces["pts"] = pts
        faces["box"] = [sorted(draw(st.lists(finite, min_size=4, max_size=4))) for _ in pts]
        faces["landmarks"] = np.reshape([draw(finite) for _ in range(10 * len(pts))], (-1, 5, 2))
        for name in ("opacity", "score", "missed_s"):
            faces[name] = [draw(part) for _ in pts]
        wishes = (draw(st.booleans()), draw(part), draw(st.none() | st.text(min_size=1)))
        tracks.append(Track(id, draw(st.integers(0, 9)), faces, *wishes))
    source = Source(
        draw(st.text()),
        draw(st.none() | st.integers(0, 2**40)),
        draw(st.none() | st.integers(0, 9)),
        draw(st.tuples(st.integers(1, 9999), st.integers(1, 9999))),
        Fraction(draw(st.integers(1, 10**6)), draw(st.integers(1, 10**6))),
        draw(st.none() | st.integers(0, 10**6)),
    )
    return Tracks(source, -(10**10), 10**10, draw(st.integers(1, 10**6)), tuple(shots), tuple(tracks))


def same(one: Tracks, other: Tracks) -> bool:
    """Whether they are equal to the last bit."""
    facts = ("source", "first_pts", "last_pts", "frames", "shots")
    wishes = ("id", "person", "skip", "strength", "weights")
    return (
        all(getattr(one, name) == getattr(other, name) for name in facts)
        and len(one.tracks) == len(other.tracks)
        and all(
            a.faces.tobytes() == b.faces.tobytes()
            and all(getattr(a, name) == getattr(b, name) for name in wishes)
            for a, b in zip(one.tracks, other.tracks, strict=True)
        )
    )


@settings(deadline=None, max_examples=60)
@given(tracks=documents())
def test_what_is_written_comes_back_to_the_last_bit(
    tracks: Tracks, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "round.json"
    write_tracks(tracks, path)
    assert same(read_tracks(path), tracks)


def test_a_person_sees_a_line_a_track(tmp_path: Path) -> None:
    path = tmp_path / "tracks.json"
    write_tracks(document(), path)
    lines = path.read_text().splitlines()
    (line,) = (line for line in lines if line.startswith('{"id": 7'))
    assert line.startswith(
        '{"id": 7, "skip": false, "strength": 0.25, "weights": "GPEN-BFR-512", "person": 1, "shot": 2, '
        '"first_s": 0.2, "last_s": 0.2, "frames": 1, "score": '
    )
    assert lines.index(line) < 12
    assert '{"pts": 200, "time_s": 0.2}' in lines
    path.write_text(path.read_text().replace('"id": 1, "skip": false', '"id": 1, "skip": true'))
    assert [track.skip for track in read_tracks(path).tracks] == [True, True, False]
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())  # as some editors save it
    assert read_tracks(path).tracks[0].skip


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**40), 10**40)
    | st.floats()
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


def places(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here, *(path for key, child in inner for path in places(child, (*here, key)))]


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_a_changed_file_is_read_or_refused_in_one_line(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.json"
    write_tracks(document(), path)
    content = json.loads(path.read_text())
    for _ in range(data.draw(st.integers(1, 2))):
        *way, last = data.draw(st.sampled_from([place for place in places(content) if place]))
        parent = content
        for key in way:
            parent = parent[key]
        change = data.draw(st.sampled_from(["put", "remove", "add"]))
        if change == "put":
            parent[last] = data.draw(values)
        elif change == "remove":
            del parent[last]
        elif isinstance(parent, dict):
            parent[data.draw(st.text(max_size=4))] = data.draw(values)
        else:
            parent.append(data.draw(values))
    path.write_text(json.dumps(content))
    read_or_refused(path)


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_in_one_line(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.json"
    write_tracks(document(), path)
    content = path.read_bytes()
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, min(len(content), start + 40)))
    path.write_bytes(content[:start] + data.draw(st.binary(max_size=8)) + content[end:])
    read_or_refused(path)


def read_or_refused(path: Path) -> None:
    try:
        tracks = read_tracks(path)
    except OptionError as error:
        said = str(error)
    else:
        write_tracks(tracks, path)
        assert same(read_tracks(path), tracks)
        return
    assert said.startswith(f"{path}: ")
    assert said.isprintable()
    assert len(said) < len(str(path)) + 250


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        ('"skip": true', '"skipp": true', r"track 2 has no \"skipp\"; did you mean 'skip'\?"),
        ('"skip": true', '"skip": "yes"', 'track 2: skip is to be true or false, got "yes"'),
        ('"skip": true', '"skip": true, "skip": false', '"skip" is there twice'),
        ('"strength": 0.25', '"strength": 25', r"track 7: a strength lies in \[0, 1\], got 25"),
        ('"strength": 0.25', '"strength": NaN', "track 7: a strength lies in"),
        ('"weights": "GPEN-BFR-512"', '"weights": 512', "track 7: weights is to be a text or null, got 512"),
        ('"weights": "GPEN-BFR-512"', '"weights": ""', "track 7: weights are a path, a name or null"),
        ('"last_s": 0.08', '"last_s": 0.04', "track 1: last_s is 0.08 and cannot be changed to 0.04"),
        ('"person": 0', '"person": -1', "track 2: an id is 1 or more, a person 0 or more, got -1"),
        ('{"id": 7,', '{"id": 2,', 'track 7 has faces and no line: to leave a track out, say "skip": true'),
        ('{"pts": 200, "time_s": 0.2}', '{"pts": 100, "time_s": 0.1}', "track 2 goes on after a cut"),
        ('"pts": [0, 40, 80]', '"pts": [0, 40]', "track 1: box has 12 numbers, and not 8"),
        ('"pts": [0, 40, 80]', '"pts": [0, 40, 40]', "track 1: pts are one or more ticks that rise"),
        ('"pts": [0, 40, 80]', '"pts": [0, 40, 9999]', "track 1: its pts lie outside 0 to 240"),
        ('"pts": [0, 40, 80]', '"pts": [0, 40, 8e1]', "track 1: pts is to be whole numbers, got 80.0"),
        ('"size_px": [640, 360]', '"size_px": [640]', "size_px is to be a width and a height, got a list"),
        ('"time_base": "1/1000"', '"time_base": "1/0"', 'time_base is to be seconds a tick, like "1/1000"'),
        ('"version": 1', '"version": 2', "version 2, and this program knows 1: make it anew"),
        ('"shots": [', '"shots": [,', "line 5 is no JSON"),
        ('"faces": {', '"faces": ' + "[" * 100000, "its JSON cannot be read"),
    ],
)
def test_mistakes_are_named(was: str, now: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "tracks.json"
    write_tracks(document(), path)
    assert was in path.read_text()
    path.write_text(path.read_text().replace(was, now, 1))
    with pytest.raises(OptionError, match=said) as caught:
        read_tracks(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_what_is_no_file_of_tracks(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match=r"none\.json"):
        read_tracks(tmp_path / "none.json")
    with pytest.raises(GpenvideoError, match=r"folder|directory"):
        read_tracks(tmp_path)
    for content in (b"", b"[]", b"null", b"{}", b"\xff\xfe\x00", b"1" * 5000):
        (tmp_path / "odd.json").write_bytes(content)
        with pytest.raises(OptionError, match=r"odd\.json"):
            read_tracks(tmp_path / "odd.json")


def test_edits_in_python() -> None:
    tracks = document().edited(1, skip=True).edited(2, skip=False, strength=0.5).edited(2, weights="net.pth")
    assert tracks.edits == {
        1: {"skip": True, "strength": 1.0, "weights": None},
        2: {"skip": False, "strength": 0.5, "weights": "net.pth"},
        7: {"skip": False, "strength": 0.25, "weights": "GPEN-BFR-512"},
    }
    assert document().tracks[0].skip is False
    with pytest.raises(OptionError, match="no track 3"):
        tracks.edited(3, skip=True)
    with pytest.raises(OptionError, match="strength"):
        tracks.edited(1, strength=2)
    with pytest.raises(OptionError, match="track 7 is there twice"):
        replace(tracks, tracks=(*tracks.tracks, tracks.tracks[2]))


# What is found once


def masks_of(path: Path) -> dict[int, list[list[int]]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {line["pts"]: line["masks"] for line in lines}


def test_a_run_is_the_same_with_its_own_tracks(clip: Path, tmp_path: Path, detector: Any) -> None:
    given, found = tmp_path / "given.mkv", tmp_path / "found.mkv"
    common: dict[str, Any] = {"weights": Same(64, paint=-0.9), "encoding": FFV1}
    direct = restore_video(clip, found, detector=detector, tracks_out=tmp_path / "tracks.json", **common)
    again = restore_video(clip, given, tracks=tmp_path / "tracks.json", **common)
    assert (len(direct.tracks), direct.faces) == (2, 24)
    assert again.tracks == direct.tracks
    assert again.shots_s == direct.shots_s == [0.2]
    assert not {"detect", "shots", "track"} & set(again.stages_s)
    before, one, other = decoded_planes(clip), decoded_planes(found), decoded_planes(given)
    assert list(one) == list(other) == list(before)
    for was, a, b in zip(before.values(), one.values(), other.values(), strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
        assert not np.array_equal(was[0], a[0])
    names = ["found.mkv", "given.mkv", "tracks.json", "tracks.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert same(read_tracks(tmp_path / "tracks.json"), analyse_video(clip, detector=detector))


def test_a_part_has_the_tracks_of_the_whole(clip: Path, whole: Tracks, tmp_path: Path) -> None:
    """Whether it is cut by time or by number; the times of the document are those of the whole source."""
    assert (whole.first_pts, whole.last_pts, whole.shots) == (200, 640, (200,))
    found = {}
    for name, decoding in (
        ("whole", Decoding()),
        ("frames", Decoding(start=4, end=9)),
        ("seconds", Decoding(start=Fraction(16, 100), end=Fraction(36, 100))),
    ):
        report = restore_video(
            clip, tmp_path / f"{name}.mkv", weights=Same(64, paint=-0.9), encoding=FFV1, tracks=whole,
            decoding=decoding, report_frames=tmp_path / f"{name}.jsonl",
        )  # fmt: skip
        assert report.warnings == [line for line in report.warnings if "Frames outside" not in line]
        found[name] = masks_of(tmp_path / f"{name}.jsonl")
    assert all(len(masks) == 2 for masks in found["whole"].values())
    assert found["frames"] == found["seconds"] == dict(list(found["whole"].items())[4:9])


def test_a_choice_begins_anew_with_each_period(tmp_path: Path, detector: Any) -> None:
    """Of two faces the larger is chosen, and left for one much larger: but a part knows nothing before it."""
    clip = write_clip(
        tmp_path / "in.mkv", size=(320, 240), frames=12, picture=two_faces,
        pts=[8600 + 40 * number for number in range(12)], time_base=Fraction(1, 1000),
    )  # fmt: skip
    tracks = analyse_video(clip, detector=detector)
    first = tracks.tracks[0].faces.copy()
    first["box"][0, :2] -= 10  # at first the larger one
    second = tracks.tracks[1].faces.copy()
    second["box"] = first["box"] + (0, 0, 4, 4)
    second["box"][0] = first["box"][0] + (10, 10, 0, 0)
    edited = tuple(
        replace(track, faces=faces) for track, faces in zip(tracks.tracks, (first, second), strict=True)
    )
    chosen = {}
    for name, start in (("whole", None), ("part", 10)):
        report = restore_video(
            clip, tmp_path / "out.mkv", weights=Same(64), encoding=FFV1, decoding=Decoding(start=start),
            tracks=replace(tracks, tracks=edited), options=RestoreOptions(max_faces=1, select="largest"),
        )  # fmt: skip
        chosen[name] = [(track.id, track.frames) for track in report.tracks]
    assert chosen == {"whole": [(1, 10), (2, 2)], "part": [(2, 2)]}


def test_outside_its_part_a_document_knows_no_face(clip: Path, tmp_path: Path, detector: Any) -> None:
    tracks = analyse_video(clip, detector=detector, decoding=Decoding(start=4, end=9))
    assert (tracks.first_pts, tracks.last_pts, tracks.frames) == (360, 520, 5)
    report = restore_video(clip, tmp_path / "out.mkv", weights=Same(64), encoding=FFV1, tracks=tracks)
    assert report.faces_per_frame == {0: 7, 2: 5}
    assert [
        line
        for line in report.warnings
        if line.startswith("Frames outside the part") and line.endswith(": 7")
    ]
    with pytest.raises(MediaError):
        analyse_video(clip, detector=detector, decoding=Decoding(start=500))


@pytest.mark.parametrize("kind", ["raw", "sequence"])
def test_sources_without_timestamps(kind: str, tmp_path: Path, detector: Any) -> None:
    if kind == "raw":
        source = portrait_clip(tmp_path / "in.264", codec="libx264", frames=6)
    else:
        source = tmp_path / "shot"
        source.mkdir()
        for number in range(6):
            side = portrait(432)[:240, 52 + number : 372 + number]
            av_picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(side), format="rgb24")
            av_picture.to_image().save(source / f"shot_{number:04d}.png")
    rate = Fraction(24)
    tracks = analyse_video(source, detector=detector, decoding=Decoding(rate_hz=rate))
    assert tracks.frames == 6
    common: dict[str, Any] = {"weights": Same(64), "encoding": FFV1, "tracks": tracks}
    done = restore_video(source, tmp_path / "out.mkv", decoding=Decoding(rate_hz=rate), **common)
    assert done.faces == 6
    if kind == "sequence":
        with pytest.raises(OptionError, match="another file, 'shot': the time base 1/24, and not 1/12"):
            restore_video(source, tmp_path / "b.mkv", decoding=Decoding(rate_hz=Fraction(12)), **common)


def test_another_file_is_refused(whole: Tracks, tmp_path: Path) -> None:
    other = portrait_clip(tmp_path / "other.mkv", frames=3)
    with pytest.raises(OptionError, match=r"another file, 'in\.mkv': bytes .* make them anew"):
        restore_video(other, tmp_path / "out.mkv", weights=Same(64), tracks=whole)
    assert [p.name for p in tmp_path.iterdir()] == ["other.mkv"]


def test_what_does_not_go_together(clip: Path, whole: Tracks, tmp_path: Path, detector: Any) -> None:
    for options, said in (
        ({"tracks": whole, "tracks_out": tmp_path / "t.json"}, "leave tracks-out and detector out"),
        ({"tracks": whole, "detector": detector}, "leave tracks-out and detector out"),
        ({"tracks_out": tmp_path / "t.txt"}, "called .json"),
        ({"tracks_out": tmp_path / "r.json", "report": tmp_path / "r.json"}, "another name"),
        ({"tracks_out": tmp_path / "r.json", "report": tmp_path / "r.png"}, "another name"),
        ({"tracks": whole.edited(1, weights=str(tmp_path / "none.pth"))}, "none.pth"),
    ):
        with pytest.raises(GpenvideoError, match=said):
            restore_video(clip, tmp_path / "out.mkv", weights=Same(64), **options)  # type: ignore[arg-type]
        assert not list(tmp_path.iterdir()), options


# What a person wants


def test_skip_strength_and_weights_of_a_track(
    clip: Path, whole: Tracks, tmp_path: Path, network: Path
) -> None:
    left, right = sorted(whole.tracks, key=lambda track: float(track.faces["box"][0, 0]))
    was = [planes[0].astype(int) for planes in decoded_planes(clip).values()]

    def change(tracks: Tracks, **options: Any) -> tuple[float, float]:
        """How much the left and the right half of the pictures change."""
        options |= {"weights": paint, "encoding": FFV1, "tracks": tracks}
        report = restore_video(clip, tmp_path / "out.mkv", **options)
        assert report.options["tracks"] == {str(id): wish for id, wish in tracks.edits.items()}
        now = [planes[0] for planes in decoded_planes(tmp_path / "out.mkv").values()]
        halves = (slice(0, 160), slice(160, 320))
        return tuple(float(np.mean([np.abs(a - b)[:, half].mean() for a, b in zip(was, now, strict=True)]))
                     for half in halves)  # type: ignore[return-value]  # fmt: skip

    paint = Same(64, paint=-0.9)
    usual = change(whole)
    assert min(usual) > 1
    assert change(whole.edited(left.id, skip=True)) == (0, usual[1])
    assert change(whole.edited(right.id, strength=0.0)) == (usual[0], 0)
    half = change(whole.edited(right.id, strength=0.5))
    assert half[0] == usual[0]
    assert half[1] == pytest.approx(usual[1] / 2, rel=0.1)
    assert half[1] == change(whole, options=RestoreOptions(strength=0.5))[1]
    largest = whole.edited(left.id, skip=True)
    assert change(largest, options=RestoreOptions(select="0")) == (0, usual[1])
    other = change(whole.edited(left.id, weights=str(network)))
    assert other[1] == usual[1]
    assert other[0] > 0
    assert other[0] != usual[0]
    by_network = restore_video(clip, tmp_path / "out.mkv", weights=network, encoding=FFV1, tracks=whole)
    both = restore_video(
        clip, tmp_path / "out.mkv", weights=paint, encoding=FFV1,
        tracks=whole.edited(left.id, weights=str(network)).edited(right.id, weights=str(network)),
    )  # fmt: skip
    assert by_network.network in both.network


@pytest.mark.parametrize("gates", [True, False])
@pytest.mark.parametrize("kind", ["a point", "tiny", "huge", "far away", "scattered", "mirrored"])
def test_landmarks_that_make_no_face_do_no_harm(
    kind: str, gates: bool, clip: Path, whole: Tracks, tmp_path: Path
) -> None:
    """A file may hold anything: neither time nor memory depends on it."""
    changes: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "a point": lambda landmarks: np.zeros_like(landmarks),
        "tiny": lambda landmarks: landmarks / 1e5,
        "huge": lambda landmarks: (landmarks - 100) * 5e3,
        "far away": lambda landmarks: landmarks + 9e5,
        "scattered": lambda landmarks: np.random.default_rng(0).uniform(-1e6, 1e6, landmarks.shape),
        "mirrored": lambda landmarks: landmarks * (-1, 1),
    }
    faces = whole.tracks[0].faces.copy()
    faces["landmarks"] = changes[kind](faces["landmarks"])
    path = tmp_path / "tracks.json"
    write_tracks(replace(whole, tracks=(replace(whole.tracks[0], faces=faces),)), path)
    options = RestoreOptions(gates=gates)
    target = tmp_path / "out.mkv"
    restore_video(clip, target, weights=Same(64, paint=-0.9), encoding=FFV1, tracks=path, options=options)
    was, now = decoded_planes(clip), decoded_planes(target)
    if kind != "mirrored":
        assert all(np.array_equal(was[pts][0], now[pts][0]) for pts in was)


def test_a_preview_with_tracks(clip: Path, whole: Tracks, tmp_path: Path) -> None:
    target, paint = tmp_path / "moment.png", Same(64, paint=-0.9)
    assert preview_video(clip, target, 5, weights=paint, tracks=whole) == 2
    assert preview_video(clip, target, 5, weights=paint, tracks=whole.edited(2, skip=True)) == 1
    rgb = read_picture(target).rgb
    assert (rgb[:, :320] != rgb[:, 320:]).any()


# The contact sheet


def _colour(pts: int) -> tuple[int, int, int]:
    return 37 * pts % 251, 59 * pts % 241, 83 * pts % 239


def solid(pts: int, ids: list[int]) -> Analysed:
    """A picture of one colour, which its pts gives, with some faces."""
    layout, colour = Layout("rgb", 8), Colour(0, True)
    planes = tuple(np.full((64, 64), level, np.uint8) for level in _colour(pts))
    frame = Frame(planes, layout, colour, pts, Fraction(1, 25))
    face = Face([10, 10, 50, 60], [(20, 25), (40, 25), (30, 38), (22, 48), (38, 48)], 0.9)
    tracks = [FaceTrack(id, face, frame.time_s, 0.0, 0.0, 1.0) for id in ids]
    return Analysed(frame, tracks, pts % 100 == 0)


def sheet_of(frames: list[Analysed]) -> np.ndarray:
    info = StreamInfo(64, 64, "gbrp", Layout("rgb", 8), Colour(0, True), Fraction(1, 25))
    sheet = ContactSheet(info)
    for frame in frames:
        sheet.take(frame)
    return sheet.draw()


def shows(sheet: np.ndarray, pts: int) -> bool:
    green, blue, red = _colour(pts)
    return bool((np.abs(sheet.astype(int) - (red, green, blue)).max(axis=2) <= 1).sum() > 5000)


def test_a_row_shows_beginning_middle_and_end() -> None:
    sheet = sheet_of([solid(pts, [1] if pts < 61 else []) for pts in range(80)])
    assert sheet.shape[2] == 3
    shown = [pts for pts in range(80) if shows(sheet, pts)]
    assert (shown[0], shown[-1], len(shown)) == (0, 60, 3)
    assert shown[1] == pytest.approx(30, abs=4)
    assert len([pts for pts in range(80) if shows(sheet_of([solid(5, [3])]), pts)]) == 1


def test_a_sheet_of_many_tracks_shows_the_longest() -> None:
    """Two hundred shots of a hundred frames would be too many rows for a picture, and for memory."""
    frames = []
    for shot in range(MOST_ROWS + 20):
        long = shot >= 20  # the first are seen for one frame
        frames += [solid(100 * shot + pts, [shot + 1]) for pts in range(2 if long else 1)]
    sheet = sheet_of(frames)
    assert max(sheet.shape) < 6000
    assert shows(sheet, 100 * 21)
    assert not shows(sheet, 100 * 3)


def test_a_sheet_without_a_face() -> None:
    assert sheet_of([solid(0, [])]).ndim == 3


# The command line


def test_the_command_line(clip: Path, tmp_path: Path, network: Path, said: Any) -> None:
    path = tmp_path / "in.tracks.json"
    source = tmp_path / "in.mkv"
    source.write_bytes(clip.read_bytes())
    done = said("tracks", source, "--device", "cpu")
    assert done.code == 0, done.err
    assert done.out.startswith(f"{path}: 12 frames, 2 tracks, 1 shots, ")
    assert str(tmp_path / "in.tracks.png") in done.out
    assert read_picture(tmp_path / "in.tracks.png").rgb.shape[0] > 2 * 96
    path.write_text(path.read_text().replace('"skip": false', '"skip": true', 1))
    common = ("--weights", network, "--codec", "ffv1", "--json")
    done = said("restore", source, "-o", tmp_path / "out.mkv", "--tracks-in", path, *common)
    assert done.code == 0, done.err
    assert json.loads(done.out.splitlines()[-1])["faces"] == 12
    done = said("restore", source, "-o", tmp_path / "out.mkv", "--tracks-out", tmp_path / "b.json", *common)
    assert done.code == 0, done.err
    assert {"b.json", "b.png"} <= {p.name for p in tmp_path.iterdir()}
    done = said("tracks", source, tmp_path / "c.json", "--json", "--start", "4f", "--end", "6f")
    assert json.loads(done.out.splitlines()[-1])["frames"] == 2
    path.write_text(path.read_text().replace('"skip"', '"skp"', 1))
    done = said("restore", source, "--tracks-in", path)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "did you mean 'skip'?" in done.err
    picture = tmp_path / "b.png"
    assert "tracks are of videos" in said("restore", picture, "--tracks-in", path).err
