"""gpenvideo: restores faces in film, video and photographs with GPEN networks.

    import gpenvideo
    restorer = gpenvideo.load()                                 # the default weights, which ship
    restored = gpenvideo.restore_image(picture, restorer)       # (H, W, 3) uint8 RGB in and out

Public names are imported when they are first used: `import gpenvideo` opens no file and loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpenvideo.errors import (
        CheckpointError,
        DependencyError,
        DeviceError,
        DownloadError,
        FaceError,
        FileError,
        FileMissing,
        GpenvideoError,
        MediaError,
        OptionError,
    )
    from gpenvideo.face import Face
    from gpenvideo.faces.detector import RetinaFaceDetector
    from gpenvideo.picture import Picture
    from gpenvideo.restorer import GPENRestorer, Restorer, load
    from gpenvideo.still import restore_aligned, restore_image, restore_picture

__all__ = [
    "CheckpointError",
    "DependencyError",
    "DeviceError",
    "DownloadError",
    "Face",
    "FaceError",
    "FileError",
    "FileMissing",
    "GPENRestorer",
    "GpenvideoError",
    "MediaError",
    "OptionError",
    "Picture",
    "Restorer",
    "RetinaFaceDetector",
    "load",
    "restore_aligned",
    "restore_image",
    "restore_picture",
]

_HOMES = {
    "gpenvideo.errors": [name for name in __all__ if name.endswith(("Error", "Missing"))],
    "gpenvideo.face": ["Face"],
    "gpenvideo.faces.detector": ["RetinaFaceDetector"],
    "gpenvideo.picture": ["Picture"],
    "gpenvideo.restorer": ["GPENRestorer", "Restorer", "load"],
    "gpenvideo.still": ["restore_aligned", "restore_image", "restore_picture"],
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'gpenvideo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
