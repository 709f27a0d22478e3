"""The pictures to train on: see `gpenvideo.faces.portraits`."""

from gpenvideo.faces.portraits import POINTS, Portrait, read_picture, read_portraits

__all__ = ["POINTS", "Portrait", "read_picture", "read_portraits"]
