import subprocess
import sys

import numpy as np
import pytest

from gpenvideo.errors import OptionError
from gpenvideo.face import LANDMARKS, Face, FaceTrack

BOX = (10.0, 20.0, 110.5, 140.25)
POINTS = np.array([(40, 60), (80, 61), (60, 85), (45, 110), (78, 111)], dtype=np.float32)


def test_a_face_holds_its_own_read_only_float32_arrays() -> None:
    points = POINTS.copy()
    face = Face(box=np.array(BOX), landmarks=points, score=np.float32(0.5))
    points[:] = 0
    assert face.box.dtype == face.landmarks.dtype == np.float32
    assert np.array_equal(face.landmarks, POINTS)
    assert len(face.landmarks) == len(LANDMARKS)
    assert isinstance(face.score, float)
    with pytest.raises(ValueError, match="read-only"):
        face.landmarks[0, 0] = 1
    with pytest.raises(AttributeError):
        face.score = 0.1  # type: ignore[misc]


def test_repr_is_one_short_line_of_numbers() -> None:
    text = repr(Face(box=np.array(BOX), landmarks=POINTS, score=0.98765))
    assert text.startswith("Face(box=(10.0, 20.0, 110.5, 140.2), landmarks=((40.0, 60.0), ")
    assert text.endswith("score=0.988)")
    assert "\n" not in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"box": np.zeros(5)}, r"\(4,\), got \(5,\)"),
        ({"landmarks": np.zeros((2, 5))}, r"\(5, 2\), got \(2, 5\)"),
        ({"landmarks": np.full((5, 2), np.nan)}, "finite, got .*nan"),
        ({"box": np.array((50, 20, 10, 30))}, r"got \[50.0, 20.0, 10.0, 30.0\]"),
        ({"score": 1.5}, "got 1.5"),
        ({"score": float("nan")}, "got nan"),
    ],
)
def test_a_face_that_cannot_be_is_refused_with_what_came(change: dict[str, object], message: str) -> None:
    fields: dict[str, object] = {"box": np.array(BOX), "landmarks": POINTS, "score": 0.9}
    with pytest.raises(OptionError, match=message):
        Face(**(fields | change))  # type: ignore[arg-type]


def test_a_faces_size_is_that_of_its_box_and_never_nothing() -> None:
    assert Face(box=np.array((10, 20, 30, 100)), landmarks=POINTS, score=1).size_px == 40
    assert Face(box=np.array((10, 20, 30, 100)), landmarks=POINTS, score=1).width_px == 20
    assert Face(box=np.array((10, 20, 10, 20)), landmarks=POINTS, score=1).size_px == 1


def test_a_track_is_a_face_at_a_moment() -> None:
    face = Face(box=np.array(BOX), landmarks=POINTS, score=0.75)
    track = FaceTrack(id=3, face=face, time_s=2.0, age_s=1.5, missed_s=0.0, opacity=0.5)
    assert track.score == 0.75
    assert repr(track).startswith("FaceTrack(3 at 2.000 s, age 1.500 s, missed 0.000 s, opacity 0.50, Face(")
    with pytest.raises(AttributeError):
        track.opacity = 1.0  # type: ignore[misc]
    for opacity in (-0.1, 1.1, float("nan")):
        with pytest.raises(OptionError, match=f"got {opacity}"):
            FaceTrack(id=3, face=face, time_s=2.0, age_s=1.5, missed_s=0.0, opacity=opacity)
    with pytest.raises(OptionError, match="got nan"):
        FaceTrack(id=3, face=face, time_s=float("nan"), age_s=1.5, missed_s=0.0, opacity=1.0)


def test_faces_masks_and_kernels_are_imported_without_torch() -> None:
    names = ["face", "faces.alignment", "faces.mask", "kernels.crop", "kernels.paste"]
    code = f"import sys, {', '.join('gpenvideo.' + name for name in names)}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
