"""gpenvideo: restores faces in film, video and photographs with GPEN networks.

    import gpenvideo
    restorer = gpenvideo.load()                                 # the default weights, which ship
    restored = gpenvideo.restore_image(picture, restorer)       # (H, W, 3) uint8 RGB in and out
    report = gpenvideo.restore_video("film.mkv", "restored.mkv", weights="GPEN-BFR-512.pth")

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
    from gpenvideo.face import Face, FaceTrack
    from gpenvideo.faces.detector import RetinaFaceDetector
    from gpenvideo.networks import NetworkOptions, load, load_detector
    from gpenvideo.picture import Picture
    from gpenvideo.pipeline import RestoreOptions
    from gpenvideo.report import Report
    from gpenvideo.restorer import GPENRestorer, Restorer
    from gpenvideo.segmented.resumable import restore_resumable
    from gpenvideo.still import restore_aligned, restore_image, restore_picture
    from gpenvideo.tracks.document import Track, Tracks
    from gpenvideo.tracks.file import read_tracks, write_tracks
    from gpenvideo.transcode import (
        Decoding,
        Encoding,
        Progress,
        analyse_video,
        preview_video,
        restore_video,
    )

__all__ = [
    "CheckpointError",
    "Decoding",
    "DependencyError",
    "DeviceError",
    "DownloadError",
    "Encoding",
    "Face",
    "FaceError",
    "FaceTrack",
    "FileError",
    "FileMissing",
    "GPENRestorer",
    "GpenvideoError",
    "MediaError",
    "NetworkOptions",
    "OptionError",
    "Picture",
    "Progress",
    "Report",
    "RestoreOptions",
    "Restorer",
    "RetinaFaceDetector",
    "Track",
    "Tracks",
    "analyse_video",
    "load",
    "load_detector",
    "preview_video",
    "read_tracks",
    "restore_aligned",
    "restore_image",
    "restore_picture",
    "restore_resumable",
    "restore_video",
    "write_tracks",
]

_HOMES = {
    "gpenvideo.errors": [name for name in __all__ if name.endswith(("Error", "Missing"))],
    "gpenvideo.face": ["Face", "FaceTrack"],
    "gpenvideo.faces.detector": ["RetinaFaceDetector"],
    "gpenvideo.networks": ["NetworkOptions", "load", "load_detector"],
    "gpenvideo.picture": ["Picture"],
    "gpenvideo.pipeline": ["RestoreOptions"],
    "gpenvideo.report": ["Report"],
    "gpenvideo.restorer": ["GPENRestorer", "Restorer"],
    "gpenvideo.segmented.resumable": ["restore_resumable"],
    "gpenvideo.still": ["restore_aligned", "restore_image", "restore_picture"],
    "gpenvideo.tracks.document": ["Track", "Tracks"],
    "gpenvideo.tracks.file": ["read_tracks", "write_tracks"],
    "gpenvideo.transcode": [
        *("Decoding", "Encoding", "Progress", "analyse_video", "preview_video", "restore_video"),
    ],
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'gpenvideo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
