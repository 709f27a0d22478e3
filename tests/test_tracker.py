import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gpenvideo.errors import OptionError
from gpenvideo.face import Face, FaceTrack
from gpenvideo.faces.tracker import Tracker, distinct, select

SHAPE = np.array([(-0.2, -0.1), (0.2, -0.11), (0.02, 0.08), (-0.15, 0.28), (0.17, 0.27)])
STEP_S = 0.16
Searches = list[list[Face] | None]


def face_at(x: float, y: float = 200.0, size: float = 100.0, score: float = 0.95, deg: float = 0.0) -> Face:
    angle = np.radians(deg)
    turn = np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    corners = np.array([(-0.4, -0.5), (0.4, 0.5)]) * size + (x, y)
    return Face(box=corners.ravel(), landmarks=SHAPE @ turn.T * size + (x, y), score=score)


def track_at(id: int, face: Face, time_s: float = 0.0, opacity: float = 1.0) -> FaceTrack:
    return FaceTrack(id, face, time_s, age_s=1.0 + time_s, missed_s=0.0, opacity=opacity)


def follow(
    searches: list[list[Face] | None], step_s: float = STEP_S, **options: float
) -> list[list[FaceTrack]]:
    """What is shown in each frame of a shot; None where it was not searched. Nobody tells the motions."""
    tracker = Tracker(look_ahead=bool(options.pop("look_ahead", True)), **options)
    shown = []
    for i, faces in enumerate(searches):
        tracker.carry(i * step_s)
        if faces is not None:
            tracker.update(faces)
        if not tracker.look_ahead:
            shown.append(tracker.at(i * step_s))
    if tracker.look_ahead:
        tracker.finish()
        shown = [tracker.at(i * step_s) for i in range(len(searches))]
    return shown


def ids(tracks: list[FaceTrack]) -> list[int]:
    return [track.id for track in tracks]


def shown(tracks: list[FaceTrack]) -> dict[int, float]:
    return {track.id: round(track.opacity, 3) for track in tracks if track.opacity > 0}


def centre(face: Face) -> NDArray[np.float64]:
    return np.asarray(face.landmarks.mean(axis=0), dtype=np.float64)


@pytest.mark.parametrize("look_ahead", [True, False])
def test_a_face_keeps_its_id_and_is_where_it_is(look_ahead: bool) -> None:
    found = follow([[face_at(100 + 8 * i)] for i in range(12)], look_ahead=look_ahead)
    assert [ids(tracks) for tracks in found] == [[1]] * 12
    for i, tracks in enumerate(found):
        away = np.abs(tracks[0].face.landmarks - face_at(100 + 8 * i).landmarks).max()
        assert away < (1.5 if look_ahead and 3 < i < 8 else 8)
        assert tracks[0].age_s == pytest.approx(i * STEP_S)
        assert tracks[0].missed_s == 0
        assert tracks[0].time_s == i * STEP_S


@pytest.mark.parametrize("look_ahead", [True, False])
def test_a_resting_face_is_not_moved_and_noise_is_damped(look_ahead: bool) -> None:
    still = follow([[face_at(100)]] * 5, look_ahead=look_ahead)
    for tracks in still:
        assert np.allclose(tracks[0].face.landmarks, face_at(100).landmarks, atol=1e-4)
        assert np.allclose(tracks[0].face.box, face_at(100).box, atol=1e-4)
    rng = np.random.default_rng(2)
    measured = [face_at(*rng.normal((100, 200), 1.0)) for _ in range(200)]
    steady = [tracks[0].face for tracks in follow([[face] for face in measured], look_ahead=look_ahead)]
    for values in ("box", "landmarks"):
        raw, smooth = (np.array([getattr(face, values) for face in faces]) for faces in (measured, steady))
        less = 0.35 if look_ahead else 0.45
        assert np.diff(smooth, 2, axis=0).std() < less * np.diff(raw, 2, axis=0).std()


def test_one_bad_finding_has_no_say() -> None:
    searches = [[face_at(100)]] * 10
    searches[5] = [face_at(117, 210, 110)]
    for tracks in follow(searches):
        assert np.abs(tracks[0].face.landmarks - face_at(100).landmarks).max() < 1


@pytest.mark.parametrize("look_ahead", [True, False])
@pytest.mark.parametrize("speed", [8.0, 12.0, 25.0, 40.0])
def test_two_people_who_cross_keep_their_ids(speed: float, look_ahead: bool) -> None:
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
        found = follow(searches, look_ahead=look_ahead)
        (a, b), last = truth[-1], {track.id: track for track in found[-1]}
        start = {track.id: centre(track.face)[0] for track in found[0]}
        going_right = min(start, key=lambda id: start[id])
        assert a > b
        assert set(last) == {1, 2}, seed
        assert abs(centre(last[going_right].face)[0] - a) < 50, seed


@pytest.mark.parametrize("look_ahead", [True, False])
def test_a_short_miss_is_bridged_along_the_motion(look_ahead: bool) -> None:
    searches: Searches = [[face_at(100 + 20 * i)] for i in range(12)]
    searches[6] = searches[7] = []
    found = follow(searches, look_ahead=look_ahead)
    assert [ids(tracks) for tracks in found] == [[1]] * 12
    missed = found[6][0]
    assert missed.missed_s == pytest.approx(STEP_S)
    assert missed.opacity == 1
    assert abs(centre(missed.face)[0] - centre(face_at(220))[0]) < (5 if look_ahead else 25)
    assert found[7][0].missed_s == pytest.approx(2 * STEP_S)
    assert (found[7][0].opacity == 1) == look_ahead, "who does not know whether it comes back lets it fade"
    assert found[8][0].missed_s == 0
    assert found[8][0].age_s == pytest.approx(8 * STEP_S)


def test_a_lost_face_fades_and_one_that_comes_later_is_another() -> None:
    here: Searches = [[face_at(100)]]
    live = follow(here * 4 + [[]] * 5 + here * 3, look_ahead=False)
    opacities = [tracks[0].opacity if tracks else 0.0 for tracks in live[:9]]
    assert opacities[:5] == [1] * 5
    assert 0 < opacities[5] + opacities[6] < 2
    assert opacities[7:] == [0, 0]
    assert [ids(tracks) for tracks in live[9:]] == [[], [2], [2]]
    frames = follow(here * 4 + [[]] * 5 + here * 3, step_s=0.1)
    assert [shown(tracks) for tracks in frames[3:6]] == [{1: 1.0}, {1: 0.5}, {}]
    assert [shown(tracks) for tracks in frames[9:]] == [{2: 0.5}, {2: 1.0}, {2: 1.0}]


def test_between_searches_a_face_goes_on() -> None:
    searches = [[face_at(100 + 3 * i, size=100 + i)] if i % 3 == 0 else None for i in range(31)]
    found = follow(searches, step_s=0.04)
    assert [ids(tracks) for tracks in found] == [[1]] * 31
    for i in range(9, 21):
        expected = face_at(100 + 3 * i, size=100 + i)
        assert np.abs(found[i][0].face.landmarks - expected.landmarks).max() < 1.5
        assert np.abs(found[i][0].face.box - expected.box).max() < 1.5


def test_what_a_search_finds_is_shared_among_the_frames_before_it() -> None:
    searches = [[face_at(100 + 12 * i)] if i % 4 == 0 else None for i in range(25)]
    found = follow(searches, step_s=0.04)
    x = [centre(tracks[0].face)[0] for tracks in found]
    steps = np.diff(x)
    assert np.abs(steps[4:-4] - 12).max() < 2


def test_faces_of_the_first_picture_are_there_and_later_ones_fade_in() -> None:
    late: Searches = [[face_at(100), face_at(400)]]
    found = follow([[face_at(100)]] * 3 + late * 4, fade_s=0.3)
    assert [shown(tracks) for tracks in found[:3]] == [{1: 1.0}] * 3
    assert [shown(tracks)[2] for tracks in found[3:]] == [0.533, 1.0, 1.0, 1.0]
    live = follow([[face_at(100)]] * 3 + late * 4, look_ahead=False)
    assert [shown(tracks) for tracks in live[:4]] == [{1: 1.0}] * 4
    assert [shown(tracks)[2] for tracks in live[4:]] == [0.8, 1.0, 1.0]
    at_once = follow([[face_at(100)]] * 3 + late * 2, fade_s=0)
    assert shown(at_once[3]) == {1: 1.0, 2: 1.0}


@pytest.mark.parametrize("look_ahead", [True, False])
def test_a_face_that_is_found_once_is_never_shown(look_ahead: bool) -> None:
    ghost = [face_at(100), face_at(400, score=0.99)]
    searches = [[face_at(100)], None, [face_at(100)], None, ghost, None, [face_at(100)], None, [face_at(100)]]
    found = follow(searches, look_ahead=look_ahead)
    assert [shown(tracks) for tracks in found] == [{1: 1.0}] * 9


def test_a_shot_that_is_searched_once_shows_what_was_found() -> None:
    assert shown(follow([[face_at(100), face_at(300, score=0.6)]])[0]) == {1: 1.0}


def test_a_face_appears_when_it_is_sure_and_stays_while_it_is_likely() -> None:
    def seen(*scores: float, look_ahead: bool = False) -> list[list[int]]:
        searches: Searches = [[face_at(100, score=score)] for score in scores]
        return [ids(found) for found in follow(searches, start=0.8, keep=0.4, look_ahead=look_ahead)]

    assert seen(0.6, 0.7, 0.79) == [[], [], []]
    assert seen(0.6, 0.85, 0.5, 0.41, 0.45) == [[], [1], [1], [1], [1]]
    assert seen(0.6, 0.85, 0.5, 0.41, 0.45, look_ahead=True) == [[1]] * 5
    searches: Searches = [[face_at(100, score=s)] for s in (0.9, 0.9, 0.39)]
    lost = follow(searches, start=0.8, keep=0.4, look_ahead=False)
    assert lost[-1][0].missed_s > 0
    assert lost[-1][0].score == pytest.approx(0.9)


def test_what_is_shown_does_not_depend_on_what_comes_long_after() -> None:
    """So frames may be given back when the next half second is known, and any more of it changes nothing."""
    rng = np.random.default_rng(8)
    searches: Searches = []
    for i in range(60):
        face = face_at(100 + 2 * i + rng.normal(), 200 + rng.normal(), score=float(rng.uniform(0.3, 1)))
        searches.append([face] if i % 3 == 0 else None)
    whole = follow(searches, 0.04)
    for end in (20, 31, 46):
        known = follow(searches[:end], 0.04)
        until = end - 1 - 13 - 3
        assert repr(known[:until]) == repr(whole[:until])


def test_a_cut_ends_every_track_and_ids_go_on() -> None:
    tracker = Tracker(look_ahead=False)
    for time_s in (0.0, 0.2):
        tracker.carry(time_s)
        tracker.update([face_at(100), face_at(300)])
        assert ids(tracker.at(time_s)) == [1, 2]
    tracker.reset()
    tracker.carry(0.24)
    tracker.update([face_at(100), face_at(300)])
    after = tracker.at(0.24)
    assert shown(after) == {3: 1.0, 4: 1.0}
    assert [track.age_s for track in after] == [0, 0]


def test_one_who_steps_behind_another_is_not_pasted_over_him() -> None:
    def searches(hidden: int) -> list[list[Face]]:
        walk = [[face_at(200), face_at(400 - 20 * i, 205, 95)] for i in range(9)]
        return walk + [[face_at(200)]] * hidden

    for look_ahead in (True, False):
        found = follow(searches(2), look_ahead=look_ahead)
        assert set(shown(found[7])) == {1, 2}
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
    tracker.carry(1.0)
    with pytest.raises(OptionError, match=r"got 1\.0 s after 1\.0 s; a cut calls reset"):
        tracker.carry(1.0)
    tracker.reset()
    tracker.carry(0.5)
    for options in (
        {"start": 0.4, "keep": 0.5},
        {"start": 1.1},
        {"keep": -0.1},
        {"fade_s": -1.0},
        {"max_missed_s": 0.6},
    ):
        with pytest.raises(OptionError, match="got"):
            Tracker(**options)


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
