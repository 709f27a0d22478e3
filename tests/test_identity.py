"""Who is who: embeddings, persons over gaps and cuts, references, the guard, the gates of yaw and size."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch
from clips import write_clip
from conftest import Said
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from portraits import Same, decoded_planes, portrait, portrait_clip, scenery
from scipy.spatial.transform import Rotation

from gpenvideo import CheckpointError, FaceError, OptionError, RestoreOptions, load_detector, restore_video
from gpenvideo.analysis import Analysed
from gpenvideo.face import Face, FaceTrack
from gpenvideo.faces.alignment import crop_from_frame
from gpenvideo.faces.gates import gate, yaw_deg
from gpenvideo.faces.identity import Appearance, ArcFaceEmbedder, Embedder, People, guarded_strength
from gpenvideo.faces.portraits import read_portraits
from gpenvideo.faces.tracker import KEEP, select
from gpenvideo.frame import Colour, Frame, Layout, StreamInfo
from gpenvideo.kernels.crop import crop
from gpenvideo.kernels.picture import as_frame
from gpenvideo.networks import load_embedder
from gpenvideo.persons import Guard, Identity
from gpenvideo.picture import Picture, read_picture, write_picture
from gpenvideo.pipeline import VideoRestorer
from gpenvideo.transcode import Decoding, Encoding

Array = NDArray[Any]
Pictures = Callable[[str], list[tuple[Array, Face]]]

FFV1 = Encoding(codec="ffv1")
HEAD_MM = np.array([(-31.5, 0, 0), (31.5, 0, 0), (0, 38, 26), (-26, 67, 1), (26, 67, 1)], dtype=float)
"""A head of its own measures, x right, y down, z to the camera: pupils, tip of the nose, mouth corners."""


@pytest.fixture(autouse=True)
def _no_weights_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPENVIDEO_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def detector() -> Any:
    return load_detector(device="cpu", threshold=KEEP)


@pytest.fixture(scope="module")
def people(shared: Path) -> Pictures:
    """Photographs of the same thirteen people, by source: picture and face."""
    root = shared / "data" / "faces"

    def of(source: str) -> list[tuple[Array, Face]]:
        found = []
        for one in sorted(read_portraits(root, only_sources=[source]), key=lambda p: p.identity)[::4]:
            points = np.array(one.landmarks)
            middle, half = points.mean(axis=0), one.side_px * 0.3
            face = Face([*(middle - half), *(middle + half)], points, 1.0)
            found.append((read_picture(root / one.file).rgb, face))
        return found

    return of


def seen(embedder: Embedder, picture: Array, face: Face) -> NDArray[np.float32]:
    matrix = crop_from_frame(face.landmarks, embedder.template)
    return embedder(crop(as_frame(picture), matrix, embedder.size_px)[None])[0]


def head(yaw: float, nod: float = 0.0, roll: float = 0.0, size: float = 1.0) -> NDArray[np.float64]:
    """The landmarks of a head that turns, then nods, then rolls, from far away."""
    turned = Rotation.from_euler("y", yaw, degrees=True).apply(HEAD_MM)
    nodded = Rotation.from_euler("x", nod, degrees=True).apply(turned)
    return np.array(Rotation.from_euler("z", roll, degrees=True).apply(nodded)[:, :2] * size + (200, 100))


def facing(yaw: float = 0.0, width: float = 100.0, at: tuple[float, float] = (100, 100)) -> Face:
    points = (head(yaw) - (200, 130)) * width / 135 + at
    return Face([at[0] - width / 2, at[1] - width / 2, at[0] + width / 2, at[1] + width / 2], points, 1.0)


def track(number: int, face: Face, time_s: float = 0.0, missed_s: float = 0.0) -> FaceTrack:
    return FaceTrack(number, face, time_s, time_s, missed_s, 1.0)


def unit(*values: float) -> NDArray[np.float32]:
    return np.asarray(np.array(values) / np.linalg.norm(values), dtype=np.float32)


# --- embeddings


def test_looks_tell_the_same_people_from_others(people: Pictures) -> None:
    embedder = Appearance()
    one, other = (
        np.stack([seen(embedder, *face) for face in people(f"london_{how}")])
        for how in ("neutral", "smiling")
    )
    likeness = one @ other.T
    same, different = np.diag(likeness), likeness[~np.eye(len(likeness), dtype=bool)]
    assert (same >= embedder.same).mean() > 0.9
    assert (different >= embedder.same).mean() < 0.1
    assert (same[:, None] > different).mean() > 0.98
    assert np.allclose(np.linalg.norm(one, axis=1), 1, atol=1e-5)


def test_looks_do_not_depend_on_size_and_exposure(detector: Any) -> None:
    (face,) = (face for face in detector([portrait(512)])[0] if face.score > 0.9)
    embedder, found = Appearance(), []
    for side, gain in ((512, 1.0), (384, 0.7), (700, 1.1)):
        picture = np.clip(portrait(side) * gain, 0, 255).astype(np.uint8)
        points = (face.landmarks + 0.5) * (side / 512) - 0.5
        found.append(seen(embedder, picture, Face(face.box * (side / 512), points, 1.0)))
    assert min(found[0] @ found[1], found[0] @ found[2]) > 0.95


def test_crops_are_checked() -> None:
    with pytest.raises(OptionError, match=r"crops are \(N, 36, 36, 3\) float32, got \(2, 36, 36, 3\) uint8"):
        Appearance()(np.zeros((2, 36, 36, 3), np.uint8))  # type: ignore[arg-type]
    assert Appearance()(np.zeros((0, 36, 36, 3), np.float32)).shape == (0, 432)
    assert np.isfinite(Appearance()(np.zeros((1, 36, 36, 3), np.float32))).all()


@pytest.fixture(scope="module")
def arcface_state() -> dict[str, torch.Tensor]:
    """Weights of facexlib's ArcFace before any training: what it says means nothing, its plumbing is real."""
    from facexlib.recognition.arcface_arch import Backbone

    torch.manual_seed(0)
    return dict(Backbone(50, 0.6, "ir_se").state_dict())


def test_arcface_embeds_aligned_faces(arcface_state: dict[str, torch.Tensor], detector: Any) -> None:
    embedder = ArcFaceEmbedder(arcface_state)
    picture = portrait(512)
    once, again, other = (
        seen(embedder, p, detector([picture])[0][0]) for p in (picture, picture, picture[:, ::-1].copy())
    )
    assert once.shape == (512,)
    assert np.linalg.norm(once) == pytest.approx(1, abs=1e-5)
    assert np.array_equal(once, again)
    assert not np.allclose(once, other, atol=1e-4)
    assert embedder.template[0] == pytest.approx((38.2946, 51.6963), abs=1e-3)  # of ArcFace's 112 px crops
    assert embedder.template[4] == pytest.approx((70.7299, 92.2041), abs=1e-3)
    assert embedder.is_identity


def test_other_weights_are_refused() -> None:
    with pytest.raises(CheckpointError, match="another network"):
        ArcFaceEmbedder({"input_layer.0.weight": torch.zeros(64, 3, 3, 3)})


def test_without_weights_people_are_told_apart_by_looks() -> None:
    assert repr(load_embedder("cpu")) == "Appearance()"


# --- people


def test_who_leaves_and_returns_is_the_same_person() -> None:
    people = People(0.8)
    people.meet({1: unit(1, 0, 0), 2: unit(0, 1, 0)}, {1, 2})
    people.meet({}, {2})
    people.meet({3: unit(0.9, 0.1, 0.2), 4: unit(0, 0, 1)}, {2, 3, 4})
    assert [people.of(t) for t in (1, 2, 3, 4, 5)] == [1, 2, 1, 3, 0]
    assert len(people) == 3


def test_two_at_once_are_two_people() -> None:
    """Twins; and one that was told while the other was hidden, which comes back."""
    people = People(0.8)
    people.meet({1: unit(1, 0), 2: unit(1, 0.01)}, {1, 2})
    assert (people.of(1), people.of(2)) == (1, 2)
    people = People(0.8)
    people.meet({1: unit(1, 0)}, {1})
    people.meet({2: unit(1, 0.1)}, {2})
    assert people.of(2) == 1
    people.meet({}, {1, 2})
    assert (people.of(1), people.of(2)) == (1, 0)
    people.meet({2: unit(1, 0.1)}, {1, 2})
    assert (people.of(1), people.of(2)) == (1, 2)


def test_pairs_are_the_likest_all_together() -> None:
    """The first track is a little more like person 2, who is the only one the second can be."""
    people = People(0.5)
    people.meet({1: unit(1, 0), 2: unit(0.6, 0.8)}, {1, 2})
    people.meet({3: unit(0.85, 0.55), 4: unit(0.2, 1)}, {3, 4})
    assert (people.of(3), people.of(4)) == (1, 2)


def test_a_person_is_the_mean_of_what_was_seen() -> None:
    """Turning slowly, one stays one; each sighting alone would not be like the first."""
    people, angles = People(0.9), np.radians(np.arange(0, 80, 10))
    for number, angle in enumerate(angles, start=1):
        people.meet({number: unit(np.cos(angle), np.sin(angle))}, {number})
    assert people.of(3) == 1
    assert people.of(len(angles)) > 1
    with pytest.raises(OptionError, match="product in"):
        People(1.5)


def test_two_references_of_one_person_are_one() -> None:
    people = People(0.8)
    assert [people.know(v) for v in (unit(1, 0), unit(0, 1), unit(1, 0.2))] == [1, 2, 1]
    people.meet({7: unit(0.1, 1)}, {7})
    assert people.of(7) == 2


pictures = st.lists(
    st.dictionaries(st.integers(1, 8), st.tuples(*[st.floats(-1, 1)] * 3), min_size=1, max_size=4),
    max_size=12,
)


@given(pictures, st.floats(-1, 1))
def test_no_two_tracks_of_a_picture_are_one_person(shown: list[dict[int, Any]], same: float) -> None:
    one, again = People(same), People(same)
    for picture in shown:
        sightings = {number: unit(*v, 0.1) for number, v in picture.items() if sum(v) > 0}
        for people in (one, again):
            people.meet(sightings, set(picture))
        told = [one.of(number) for number in picture if one.of(number)]
        assert len(told) == len(set(told))
        assert all(one.of(number) for number in sightings)
        assert [one.of(n) for n in picture] == [again.of(n) for n in picture]


# --- in a stream


def info(width: int = 320, height: int = 240) -> StreamInfo:
    return StreamInfo(width, height, "gbrp", Layout("rgb", 8), Colour(0, True, (0, 0)), Fraction(1, 10))


def stream(faces: Iterable[tuple[Array, list[FaceTrack], bool]]) -> Callable[[Any], Iterator[Any]]:
    """An analysis that gives these pictures and tracks, ten a second, with other packets among them."""

    def analysis(_: Any) -> Iterator[Any]:
        for number, (picture, tracks, starts) in enumerate(faces):
            frame = replace(as_frame(picture), pts=number, time_base=Fraction(1, 10))
            yield Analysed(frame, [replace(t, time_s=frame.time_s) for t in tracks], starts)
            yield "packet"

    return analysis


def test_people_are_known_again_over_cuts(people: Pictures) -> None:
    before, after = people("london_neutral"), people("london_smiling")
    shots = [before[0], before[3], after[0], before[6], after[3]]
    frames = [
        (picture, [track(number, face)], second == 0)
        for number, (picture, face) in enumerate(shots, start=1)
        for second in range(3)
    ]
    identity = Identity(Appearance(), info(*shots[0][0].shape[1::-1]))
    items = list(identity.told_apart(stream(frames))([]))
    told = [item.tracks[0].person for item in items if isinstance(item, Analysed)]
    assert told == [1, 1, 1, 2, 2, 2, 1, 1, 1, 3, 3, 3, 2, 2, 2]
    assert items.count("packet") == len(frames)


def test_a_face_is_told_when_it_is_seen_clearly(people: Pictures) -> None:
    picture, face = people("london_neutral")[0]
    unclear = [
        [track(1, face, missed_s=0.04)],
        [track(1, facing(60))],
        [track(1, facing(width=14))],
        [track(1, face), track(2, facing(65, at=tuple(face.landmarks[2])))],  # type: ignore[arg-type]
        [track(1, Face(face.box - (face.box[0], 0, face.box[0], 0), face.landmarks, face.score))],  # comes in
    ]
    identity = Identity(Appearance(), info(*picture.shape[1::-1]))
    frames = [(picture, tracks, False) for tracks in [*unclear, [track(1, face)]]]
    told = [i.tracks[0].person for i in identity.told_apart(stream(frames))([]) if isinstance(i, Analysed)]
    assert told == [0, 0, 0, 0, 0, 1]


def test_select_takes_a_person() -> None:
    tracks = [replace(track(n, facing()), person=p) for n, p in ((1, 2), (2, 1), (3, 2), (4, 0))]
    assert [t.id for t in select(tracks, "person:2")] == [1, 3]
    assert select(tracks, "person:7") == []
    with pytest.raises(OptionError, match="id:NUMBER or person:NUMBER"):
        select(tracks, "person:she")


def two_people_clip(path: Path, people: Pictures) -> Path:
    """Three shots of six frames: one, another, and the first one smiling."""
    shots = [people("london_neutral")[0][0], people("london_neutral")[3][0], people("london_smiling")[0][0]]

    def picture(number: int) -> av.VideoFrame:
        shot = number // 6
        side, left, top = ((240, 0, 0), (180, 130, 50), (220, 60, 10))[shot]
        rgb = np.full((240, 320, 3), (40, 180, 90)[shot], np.uint8)
        person = cv2.resize(shots[shot], (side, side), interpolation=cv2.INTER_AREA)
        rgb[top : top + side, left + number % 6 : left + number % 6 + side] = person
        return av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p", threads=1)

    return write_clip(path, size=(320, 240), frames=18, picture=picture, rate=10)


def test_a_reference_is_restored_alone(people: Pictures, tmp_path: Path, detector: Any) -> None:
    source = two_people_clip(tmp_path / "in.mkv", people)
    photo = tmp_path / "person.png"
    write_picture(Picture(people("london_neutral")[0][0]), photo)
    report = restore_video(
        source,
        tmp_path / "out.mkv",
        weights=Same(64, paint=-0.9),
        detector=detector,
        options=RestoreOptions(reference=(str(photo),)),
        encoding=FFV1,
        report=tmp_path / "report.json",
    )
    pairs = zip(decoded_planes(source).values(), decoded_planes(tmp_path / "out.mkv").values(), strict=True)
    changed = [not all(map(np.array_equal, was, now)) for was, now in pairs]
    assert changed == [True] * 6 + [False] * 6 + [True] * 6
    assert [(t.person, t.frames) for t in report.tracks] == [(1, 6), (1, 6)]
    looks = "persons are told apart by looks, not by an embedding: gpenvideo weights pull ArcFace-IR-SE50"
    assert report.warnings.count(looks) == 1
    told = json.loads((tmp_path / "report.json").read_text())["identity"]
    assert told["embedder"] == "Appearance()"
    assert told["guard"].startswith("off: ArcFace-IR-SE50 is not on this machine")


def test_a_person_is_restored_alone(people: Pictures, tmp_path: Path, detector: Any) -> None:
    source = two_people_clip(tmp_path / "in.mkv", people)
    report = restore_video(
        source,
        tmp_path / "out.mkv",
        weights=Same(64, paint=-0.9),
        detector=detector,
        options=RestoreOptions(select="person:2"),
        encoding=FFV1,
    )
    assert [(t.first_s, t.last_s, t.person) for t in report.tracks] == [(0.6, 1.1, 2)]
    everybody = restore_video(
        source, tmp_path / "all.mkv", weights=Same(64), detector=detector, encoding=FFV1
    )
    assert [t.person for t in everybody.tracks] == [1, 2, 1]
    assert not any("looks" in warning for warning in everybody.warnings)


def test_a_reference_shows_a_face(tmp_path: Path, detector: Any) -> None:
    empty, crowd = tmp_path / "empty.png", tmp_path / "crowd.png"
    write_picture(Picture(scenery(320, 240)), empty)
    small, large = portrait(300), portrait(512)
    both = np.zeros((512, 812, 3), np.uint8)
    both[:300, :300], both[:, 300:] = small, large
    write_picture(Picture(both), crowd)
    identity = Identity(Appearance(), info())
    with pytest.raises(FaceError, match=r"empty.png: no face is found in it: a reference shows one face"):
        identity.wanted_only(stream([]), [empty], detector)
    identity.wanted_only(stream([]), [crowd], detector)
    assert f"{crowd}: of its 2 faces the largest is the reference" in identity.warnings
    (face,) = (f for f in detector([large])[0] if f.score > 0.9)
    assert identity.people.know(seen(Appearance(), large, face)) == 1


def test_the_command_line_takes_a_reference(said: Callable[..., Said], network: Path, tmp_path: Path) -> None:
    clip = portrait_clip(tmp_path / "in.mkv", frames=3)
    empty, she = tmp_path / "empty.png", tmp_path / "she.png"
    write_picture(Picture(scenery(320, 240)), empty)
    write_picture(Picture(portrait(512)), she)
    run = said("restore", clip, "--weights", network, "--device", "cpu", "--reference", empty)
    assert run.code == 2
    assert "no face is found in it" in run.err.replace("\n", " ")
    told = tmp_path / "report.json"
    common = ("restore", clip, "--weights", network, "--device", "cpu", "--report", told)
    assert said(*common, "--reference", she, "--no-gates", "--no-guard").code == 0
    report = json.loads(told.read_text())
    assert report["faces_per_frame"] == {"1": 3}
    assert report["identity"]["guard"] == "off"
    assert report["options"]["restore"]["gates"] is False
    assert said("restore", she, "--reference", she).code == 2


# --- the guard


class Brightness:
    """An embedder for tests that knows who is who by light and dark: a negative is quite another person."""

    size_px, same, is_identity = 16, 0.5, True
    template = Appearance().template * (16 / 36)

    def __call__(self, crops: NDArray[np.float32]) -> NDArray[np.float32]:
        flat = crops.mean(axis=3).reshape(len(crops), -1)
        flat = flat - flat.mean(axis=1, keepdims=True)
        return np.asarray(flat / np.linalg.norm(flat, axis=1, keepdims=True), dtype=np.float32)


def test_strength_falls_with_the_likeness() -> None:
    found = [guarded_strength(s) for s in np.linspace(-1, 1, 201)]
    assert found == sorted(found)
    assert (found[0], guarded_strength(0.1)) == (0.4, pytest.approx(0.4))
    assert guarded_strength(0.25) == pytest.approx(0.7)
    assert {guarded_strength(s) for s in (0.4, 0.7, 1.0)} == {1.0}


def guarded(guard: Guard, times_s: Iterable[float], changes_s: float) -> list[float]:
    """The factors of a face whose restored face is somebody else's from a time on."""
    same = Same(64)
    pixels = cv2.resize(portrait(512)[30:200, 140:310], (64, 64)).astype(np.float32) / 127.5 - 1
    return [
        guard(
            track(3, facing(), time_s=t),
            lambda t=t: (pixels, -pixels if t >= changes_s else pixels),  # type: ignore[misc]
            same.template,
        )
        for t in times_s
    ]


def test_a_face_that_becomes_somebody_else_is_shown_less() -> None:
    guard = Guard(Brightness())
    factors = guarded(guard, np.arange(0, 8, 0.1), 3.95)
    assert factors[:40] == [1.0] * 40
    assert factors[60:] == pytest.approx([0.4] * 20)
    steps = -np.diff(factors)
    assert steps.min() >= 0
    assert steps.max() < 0.05
    assert guard.lowest == {3: pytest.approx(0.4)}


def test_the_guard_is_the_same_wherever_a_run_begins() -> None:
    times = np.arange(0, 12, 0.1)
    whole = guarded(Guard(Brightness()), times, 5.0)
    later = guarded(Guard(Brightness(), shift_s=4.0), times[40:] - 4.0, 1.0)
    assert later[20:] == pytest.approx(whole[60:], abs=1e-9)


def test_a_larger_result_is_seen_in_the_same_frame() -> None:
    """What was enlarged is as like its input as can be: no part of a pixel is lost on the way."""
    small = cv2.resize(portrait(512)[30:200, 140:310], (64, 64)).astype(np.float32) / 127.5 - 1
    large = cv2.resize(small, (256, 256), interpolation=cv2.INTER_LINEAR)
    assert Guard(Brightness()).likeness(small, large, Same(64).template) > 0.995


def test_a_run_with_arcface_is_guarded(
    arcface_state: dict[str, torch.Tensor], tmp_path: Path, detector: Any
) -> None:
    folder = tmp_path / "cache" / "weights"
    folder.mkdir(parents=True)
    torch.save(arcface_state, folder / "recognition_arcface_ir_se50.pth")
    source = portrait_clip(tmp_path / "in.mkv", frames=3)
    runs = {
        guard: restore_video(
            source,
            tmp_path / f"{guard}.mkv",
            weights=Same(64),
            detector=detector,
            options=RestoreOptions(guard=guard),
            encoding=FFV1,
        )
        for guard in (True, False)
    }
    assert runs[True].identity["embedder"].startswith("ArcFaceEmbedder(")
    assert runs[True].identity["guard"] == {}  # the restorer changes nothing: nobody is lowered
    assert runs[False].identity["guard"] == "off"
    assert runs[True].stages_s["identity"] > runs[False].stages_s["identity"] > 0


# --- the gates

turns = st.floats(-75, 75)


@given(turns, st.floats(-20, 20), st.floats(-40, 40), st.floats(0.2, 20))
def test_yaw_is_that_of_a_turned_head(yaw: float, nod: float, roll: float, size: float) -> None:
    assert yaw_deg(head(yaw, nod, roll, size)) == pytest.approx(yaw, abs=6)


@given(turns, st.floats(-20, 20))
def test_a_mirrored_face_looks_the_other_way(yaw: float, nod: float) -> None:
    points = head(yaw, nod)
    mirrored = (points * (-1, 1))[[1, 0, 2, 4, 3]]
    assert yaw_deg(mirrored) == pytest.approx(-yaw_deg(points), abs=1e-6)


def test_a_face_without_height_has_no_yaw() -> None:
    with pytest.raises(FaceError, match="without height"):
        yaw_deg(np.ones((5, 2)))


def test_faces_to_the_camera_pass_whole(people: Pictures) -> None:
    for picture, face in people("london_smiling"):
        assert abs(yaw_deg(face.landmarks)) < 25, picture.shape
        assert gate(face) == 1.0
    assert {gate(facing(yaw, width)) for yaw in (-40, 0, 40) for width in (20, 100, 2000)} == {1.0}


def test_gates_fall_smoothly_to_nothing() -> None:
    turning = np.array([gate(facing(yaw)) for yaw in np.arange(0, 90, 0.5)])
    shrinking = np.array([gate(facing(width=width)) for width in np.arange(30, 5, -0.1)])
    for falling in (turning, shrinking):
        assert (falling[0], falling[-1]) == (1.0, 0.0)
        assert np.diff(falling).max() <= 0
        assert np.diff(falling).min() > -0.06
    assert gate(facing(-85)) == gate(facing(85)) == 0.0


def restored(frame: Frame, tracks: list[FaceTrack], **options: Any) -> Any:
    analysis = stream([(np.stack([frame.planes[2], frame.planes[0], frame.planes[1]], axis=2), tracks, True)])
    video = VideoRestorer(Same(64, paint=-0.9), analysis, info(), RestoreOptions(grain="none", **options))
    return next(iter(video([])))


def test_profiles_and_tiny_faces_are_left_alone() -> None:
    frame = as_frame(np.full((240, 320, 3), 128, np.uint8))
    tracks = [track(1, facing(80, 60, (60, 60))), track(2, facing(0, 10, (160, 60))), track(3, facing())]
    assert [t.id for t in restored(frame, tracks).tracks] == [3]
    assert [t.id for t in restored(frame, tracks, gates=False).tracks] == [1, 2, 3]
    assert [t.id for t in restored(frame, tracks, select="largest").tracks] == [3]
    assert restored(frame, [track(1, facing(80, 150)), track(3, facing())], select="largest").tracks == []


def test_gates_change_nothing_for_a_face_to_the_camera() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    frame, tracks = as_frame(noise), [track(1, facing())]
    with_gates, without = restored(frame, tracks), restored(frame, tracks, gates=False)
    assert all(map(np.array_equal, with_gates.frame.planes, without.frame.planes))
    half = [track(1, facing(60))]
    left, ungated = (restored(frame, half, gates=gates).frame.planes[0].std() for gates in (True, False))
    assert ungated + 1 < left < frame.planes[0].std() - 1


def test_decoding_a_part_looks_at_the_same_times(people: Pictures, tmp_path: Path, detector: Any) -> None:
    """From the second shot on, people are numbered from there."""
    source = two_people_clip(tmp_path / "in.mkv", people)
    report = restore_video(
        source,
        tmp_path / "out.mkv",
        weights=Same(64),
        detector=detector,
        decoding=Decoding(start=0.6),
        encoding=FFV1,
    )
    assert [t.person for t in report.tracks] == [1, 2]
