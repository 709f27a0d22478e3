from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from gpenvideo.errors import OptionError
from gpenvideo.face import Face, FaceTrack
from gpenvideo.faces.tracker import Tracker, between, distinct, select

SHAPE = np.array([(-0.2, -0.1), (0.2, -0.11), (0.02, 0.08), (-0.15, 0.28), (0.17, 0.27)])
STEP_S = 0.16


def face_at(x: float, y: float = 200.0, size: float = 100.0, score: float = 0.95, deg: float = 0.0) -> Face:
    angle = np.radians(deg)
    turn = np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    corners = np.array([(-0.4, -0.5), (0.4, 0.5)]) * size + (x, y)
    return Face(box=corners.ravel(), landmarks=SHAPE @ turn.T * size + (x, y), score=score)


def track_at(id: int, face: Face, time_s: float = 0.0, opacity: float = 1.0) -> FaceTrack:
    return FaceTrack(id, face, time_s, age_s=1.0 + time_s, missed_s=0.0, opacity=opacity)


def follow(searches: list[list[Face]], **options: float) -> list[list[FaceTrack]]:
    tracker = Tracker(**options)
    return [tracker.update(i * STEP_S, faces) for i, faces in enumerate(searches)]


def ids(tracks: list[FaceTrack]) -> list[int]:
    return [track.id for track in tracks]


def shown(tracks: list[FaceTrack]) -> dict[int, float]:
    return {track.id: round(track.opacity, 3) for track in tracks if track.opacity > 0}


def centre(face: Face) -> NDArray[np.float64]:
    return np.asarray(face.landmarks.mean(axis=0), dtype=np.float64)


def test_a_face_keeps_its_id_and_is_where_it_is() -> None:
    found = follow([[face_at(100 + 8 * i)] for i in range(12)])
    assert [ids(tracks) for tracks in found] == [[1]] * 12
    for i, tracks in enumerate(found):
        assert np.abs(tracks[0].face.landmarks - face_at(100 + 8 * i).landmarks).max() < 2
        assert tracks[0].age_s == pytest.approx(i * STEP_S)
        assert tracks[0].missed_s == 0
        assert tracks[0].time_s == i * STEP_S


def test_a_resting_face_is_not_moved_and_noise_is_damped() -> None:
    still = follow([[face_at(100)]] * 5)
    for tracks in still:
        assert np.array_equal(tracks[0].face.landmarks, face_at(100).landmarks)
        assert np.array_equal(tracks[0].face.box, face_at(100).box)
    rng = np.random.default_rng(2)
    measured = [face_at(*rng.normal((100, 200), 1.0)) for _ in range(200)]
    steady = [tracks[0].face for tracks in follow([[face] for face in measured])]
    for values in ("box", "landmarks"):
        raw, smooth = (np.array([getattr(face, values) for face in faces]) for faces in (measured, steady))
        assert np.diff(smooth, 2, axis=0).std() < 0.75 * np.diff(raw, 2, axis=0).std()


@pytest.mark.parametrize("speed", [8.0, 12.0, 25.0, 40.0])
def test_two_people_who_cross_keep_their_ids(speed: float) -> None:
    """One hides the other for a moment; sizes, heights and noise as in life."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        searches, truth = [], []
        for i in range(int(400 / speed)):
            a, b = 200 + speed * i, 600 - speed * i
            left, right = face_at(a, 200, 100), face_at(b, 212, 104)
            faces = [left] if abs(a - b) < 60 else [left, right]
            faces = [Face(f.box, f.landmarks + rng.normal(0, 1, (5, 2)), f.score) for f in faces]
            searches.append([faces[j] for j in rng.permutation(len(faces))])
            truth.append((a, b))
        found = follow(searches)
        (a, b), last = truth[-1], {track.id: track for track in found[-1]}
        start = {track.id: centre(track.face)[0] for track in found[0]}
        going_right = min(start, key=lambda id: start[id])
        assert a > b
        assert set(last) == {1, 2}, seed
        assert abs(centre(last[going_right].face)[0] - a) < 50, seed


def test_a_short_miss_is_bridged_along_the_motion() -> None:
    searches = [[face_at(100 + 20 * i)] for i in range(12)]
    searches[6] = searches[7] = []
    found = follow(searches)
    assert [ids(tracks) for tracks in found] == [[1]] * 12
    missed = found[6][0]
    assert missed.missed_s == pytest.approx(STEP_S)
    assert missed.opacity == 1
    assert 205 < centre(missed.face)[0] - centre(SHAPE_FACE)[0] < 225
    assert found[7][0].missed_s == pytest.approx(2 * STEP_S)
    assert found[8][0].missed_s == 0
    assert found[8][0].age_s == pytest.approx(8 * STEP_S)


SHAPE_FACE = face_at(0)


def test_a_lost_face_fades_and_one_that_comes_later_is_another() -> None:
    found = follow([[face_at(100)]] * 4 + [[]] * 5 + [[face_at(100)]] * 3)
    opacities = [tracks[0].opacity if tracks else 0.0 for tracks in found[:9]]
    assert opacities[:5] == [1] * 5
    assert 0 < opacities[6] < opacities[5] <= 1
    assert opacities[7:] == [0, 0]
    assert [ids(tracks) for tracks in found[9:]] == [[2]] * 3
    assert follow([[face_at(100)]] * 4 + [[]] * 5, max_missed_s=2.0)[-1][0].opacity == 1


def test_faces_of_the_first_picture_are_there_and_later_ones_fade_in() -> None:
    late = [face_at(100), face_at(400)]
    found = follow([[face_at(100)]] * 3 + [late] * 4)
    assert shown(found[0]) == {1: 1.0}
    assert shown(found[3]) == {1: 1.0}
    assert ids(found[3]) == [1, 2]
    assert shown(found[4]) == {1: 1.0, 2: 0.8}
    assert shown(found[5]) == {1: 1.0, 2: 1.0}
    at_once = follow([[face_at(100)]] * 3 + [late] * 2, fade_s=0)
    assert shown(at_once[4]) == {1: 1.0, 2: 1.0}


def test_a_face_that_is_found_once_is_never_shown() -> None:
    ghost = [face_at(100), face_at(400, score=0.99)]
    searches = [[face_at(100)], [face_at(100)], ghost, [face_at(100)], [face_at(100)]]
    found = follow(searches)
    assert [shown(tracks) for tracks in found] == [{1: 1.0}] * 5
    for (i, before), (j, after) in pairwise(enumerate(found)):
        for time_s in np.linspace(i * STEP_S, j * STEP_S, 5):
            assert ids(between(before, after, float(time_s))) == [1]


def test_a_face_appears_when_it_is_sure_and_stays_while_it_is_likely() -> None:
    def seen(*scores: float) -> list[list[int]]:
        tracks = follow([[face_at(100, score=score)] for score in scores], start=0.8, keep=0.4)
        return [ids(found) for found in tracks]

    assert seen(0.6, 0.7, 0.79) == [[], [], []]
    assert seen(0.6, 0.85, 0.5, 0.41, 0.45) == [[], [1], [1], [1], [1]]
    lost = follow([[face_at(100, score=s)] for s in (0.9, 0.9, 0.39)], start=0.8, keep=0.4)
    assert lost[-1][0].missed_s > 0
    assert lost[-1][0].score == pytest.approx(0.9)


def test_a_cut_ends_every_track_and_ids_go_on() -> None:
    tracker = Tracker()
    assert ids(tracker.update(0.0, [face_at(100), face_at(300)])) == [1, 2]
    assert ids(tracker.update(0.2, [face_at(100), face_at(300)])) == [1, 2]
    tracker.reset()
    after = tracker.update(0.24, [face_at(100), face_at(300)])
    assert shown(after) == {3: 1.0, 4: 1.0}
    assert [track.age_s for track in after] == [0, 0]


def test_one_who_steps_behind_another_is_not_pasted_over_him() -> None:
    def searches(hidden: int) -> list[list[Face]]:
        walk = [[face_at(200), face_at(400 - 20 * i, 205, 95)] for i in range(9)]
        return walk + [[face_at(200)]] * hidden

    found = follow(searches(2))
    assert set(shown(found[8])) == {1, 2}
    assert ids(found[-1]) == [1, 2]
    assert set(shown(found[-1])) == {1}


@given(st.randoms(use_true_random=False), st.integers(0, 10**6))
def test_the_order_of_the_faces_does_not_matter(shuffler: object, seed: int) -> None:
    rng = np.random.default_rng(seed)
    searches = [
        [face_at(x + 5 * i, score=float(rng.uniform(0.3, 1))) for x in (80, 230, 390)] for i in range(6)
    ]
    mixed = [[faces[j] for j in rng.permutation(3)] for faces in searches]
    assert repr(follow(searches)) == repr(follow(mixed)) == repr(follow(mixed))


def test_a_face_that_is_found_twice_is_one() -> None:
    twice = [face_at(100, score=0.7), face_at(108, 205, 120, score=0.9), face_at(300, score=0.6)]
    assert [face.score for face in distinct(twice)] == pytest.approx([0.9, 0.6])
    assert len(distinct([face_at(100), face_at(170)])) == 2
    assert distinct([]) == []


def test_times_and_options_that_cannot_be_are_refused() -> None:
    tracker = Tracker()
    tracker.update(1.0, [])
    with pytest.raises(OptionError, match=r"got 1\.0 s after 1\.0 s; a cut calls reset"):
        tracker.update(1.0, [])
    tracker.reset()
    tracker.update(0.5, [])
    for options in ({"start": 0.4, "keep": 0.5}, {"start": 1.1}, {"keep": -0.1}, {"fade_s": -1.0}):
        with pytest.raises(OptionError, match="got"):
            Tracker(**options)


@given(
    st.tuples(st.floats(-500, 500), st.floats(-500, 500)),
    st.floats(20, 300),
    st.floats(-80, 80),
    st.floats(0, 1),
)
def test_between_two_searches_a_face_turns_grows_and_moves_at_a_steady_rate(
    place: tuple[float, float], size: float, deg: float, share: float
) -> None:
    before, after = face_at(0, 0, 100), face_at(*place, size, deg=deg)
    (track,) = between([track_at(5, before)], [track_at(5, after, 2.0)], 2.0 * share)
    middle = share * centre(after) + (1 - share) * centre(before)
    expected = face_at(0, 0, 100 * (size / 100) ** share, deg=deg * share)
    expected_points = expected.landmarks - centre(expected) + middle
    assert np.allclose(track.face.landmarks, expected_points, atol=1e-2)
    assert track.id == 5
    assert track.time_s == 2.0 * share
    assert track.age_s == pytest.approx(1 + 2.0 * share)


points = st.lists(st.floats(0, 1000), min_size=10, max_size=10).map(lambda xy: np.reshape(xy, (5, 2)))


def with_landmarks(values: ArrayLike) -> Face:
    return Face(box=np.array((0, 0, 10, 10)), landmarks=np.asarray(values), score=0.5)


@given(points, points)
def test_at_its_ends_an_interval_has_what_the_searches_found(a: ArrayLike, b: ArrayLike) -> None:
    before, after = [track_at(1, with_landmarks(a))], [track_at(1, with_landmarks(b), 1.0)]
    for time_s, expected in ((0.0, before), (1.0, after)):
        (track,) = between(before, after, time_s)
        assert np.allclose(track.face.landmarks, expected[0].face.landmarks, atol=0.02)
        assert track.age_s == expected[0].age_s
    (middle,) = between(before, after, 0.5)
    assert np.isfinite(middle.face.landmarks).all()
    (same,) = between(before, [track_at(1, before[0].face, 1.0)], 0.3)
    assert np.allclose(same.face.landmarks, before[0].face.landmarks, atol=1e-3)


@given(points, st.floats(-3, 3), st.floats(0.1, 10), st.tuples(st.floats(-500, 500), st.floats(-500, 500)))
def test_a_picture_turned_scaled_and_shifted_is_interpolated_alike(
    offsets: NDArray[np.float64], angle: float, scale: float, shift: tuple[float, float]
) -> None:
    turn = scale * np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    a = SHAPE * 100
    b = SHAPE * 130 + 0.02 * offsets + (30, -20)

    def middle(start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float32]:
        tracks = between([track_at(1, with_landmarks(start))], [track_at(1, with_landmarks(end), 1.0)], 0.4)
        return tracks[0].face.landmarks

    expected = middle(a, b) @ turn.T + shift
    assert np.allclose(middle(a @ turn.T + shift, b @ turn.T + shift), expected, atol=0.01 * scale + 0.01)


def test_those_who_come_or_go_between_two_searches_fade() -> None:
    stays, goes, comes = (face_at(x) for x in (100, 300, 500))
    before = [track_at(1, stays), track_at(2, goes, opacity=0.5)]
    after = [track_at(1, stays, STEP_S), track_at(3, comes, STEP_S, opacity=0.5)]
    assert shown(between(before, after, 0.0)) == {1: 1.0, 2: 0.5}
    assert shown(between(before, after, 0.04)) == {1: 1.0, 2: 0.3}
    assert shown(between(before, after, 0.12)) == {1: 1.0, 3: 0.3}
    assert shown(between(before, after, STEP_S)) == {1: 1.0, 3: 0.5}
    assert between([], [], 1.0) == []


def test_the_largest_face_stays_chosen_while_another_is_hardly_larger() -> None:
    def chosen(*sizes: float, previous: list[int]) -> list[int]:
        tracks = [track_at(i + 1, face_at(200.0 * i, size=size)) for i, size in enumerate(sizes)]
        return ids(select(tracks, "largest", previous=previous))

    assert chosen(100, 110, previous=[]) == [2]
    assert chosen(100, 110, previous=[1]) == [1]
    assert chosen(100, 125, previous=[1]) == [2]
    assert chosen(100, 110, previous=[7]) == [2]


def test_faces_are_chosen_by_place_id_size_and_number() -> None:
    sizes = {1: (500, 100), 2: (100, 60), 3: (300, 140), 9: (700, 30)}
    tracks = [track_at(id, face_at(x, size=size)) for id, (x, size) in sizes.items()]
    tracks.append(track_at(11, face_at(50), opacity=0.0))
    assert ids(select(tracks)) == [1, 2, 3, 9]
    assert ids(select(tracks, "largest")) == [3]
    assert [ids(select(tracks, place)) for place in ("0", "1", "3", "4")] == [[2], [3], [9], []]
    assert [ids(select(tracks, how)) for how in ("id:9", "id:4", "id:11")] == [[9], [], []]
    assert ids(select(tracks, min_face_px=60)) == [1, 3]
    assert ids(select(tracks, max_faces=2)) == [1, 3]
    assert ids(select(tracks, max_faces=2, previous=[2, 1, 9])) == [1, 3]
    assert select([]) == []
    for how in ("smallest", "-1", "id:", "id:x", "1.5", ""):
        with pytest.raises(OptionError, match=f"got '{how}'"):
            select(tracks, how)
    with pytest.raises(OptionError, match="and 0"):
        select(tracks, max_faces=0)
    with pytest.raises(OptionError, match="-1"):
        select(tracks, min_face_px=-1)
