import subprocess
import sys

import numpy as np
import pytest

from gpenvideo.errors import OptionError
from gpenvideo.face import LANDMARKS, Face

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


def test_faces_masks_and_kernels_are_imported_without_torch() -> None:
    names = ["face", "faces.alignment", "faces.mask", "kernels.crop", "kernels.paste"]
    code = f"import sys, {', '.join('gpenvideo.' + name for name in names)}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
