"""Every failure gpenvideo raises on purpose.

    GpenvideoError
    ├── OptionError       (ValueError)         an argument or an option that cannot be used
    ├── FileError         (OSError)            a file or folder that cannot be read or written
    │   └── FileMissing   (FileNotFoundError)  ... because it is not there
    ├── MediaError        (ValueError)         a picture or video whose content cannot be used
    ├── CheckpointError   (ValueError)         network weights that cannot be loaded
    ├── DownloadError     (ConnectionError)    weights that could not be fetched, or came damaged
    ├── FaceError         (ValueError)         no face, or not the face that the call needs
    ├── DeviceError       (RuntimeError)       a device or precision this machine does not have
    └── DependencyError   (ImportError)        an optional package that is not installed

Each class is also the builtin a Python user would catch. Each instance carries where it happened:
`path` (the file, or None) and `time_s` (seconds into the stream, or None). `str()` is one line that says
what to do; the command line prints exactly that line and exits with status 2.
"""

from __future__ import annotations

from os import PathLike, fspath

__all__ = [
    "CheckpointError",
    "DependencyError",
    "DeviceError",
    "DownloadError",
    "FaceError",
    "FileError",
    "FileMissing",
    "GpenvideoError",
    "MediaError",
    "OptionError",
    "file_error",
]


class GpenvideoError(Exception):
    """The root of the tree: a one-line message, the file and the stream time it belongs to."""

    def __init__(
        self, message: str, *, path: str | PathLike[str] | None = None, time_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.path = None if path is None else fspath(path)
        self.time_s = time_s

    def __str__(self) -> str:
        where = "" if self.path is None else f"{self.path}: "
        when = "" if self.time_s is None else f" (at {self.time_s:.3f} s)"
        return f"{where}{self.message}{when}"


class OptionError(GpenvideoError, ValueError):
    """An argument or an option that cannot be used."""


class FileError(GpenvideoError, OSError):
    """A file or folder that cannot be read or written: a directory, no permission, a full disk."""


class FileMissing(FileError, FileNotFoundError):  # noqa: N818 - reads as what it says
    """A file or folder that is not there."""


class MediaError(GpenvideoError, ValueError):
    """A picture or video whose content cannot be used."""


class CheckpointError(GpenvideoError, ValueError):
    """Network weights that cannot be loaded: damaged, unsafe, or of another architecture."""


class DownloadError(GpenvideoError, ConnectionError):
    """Weights that could not be fetched, or that came damaged."""


class FaceError(GpenvideoError, ValueError):
    """No face was found, or not the face that the call needs."""


class DeviceError(GpenvideoError, RuntimeError):
    """A device or a precision that this machine does not have."""


class DependencyError(GpenvideoError, ImportError):
    """An optional package that is not installed; the message names the pip command."""


def file_error(error: OSError, path: str | PathLike[str], doing: str) -> FileError:
    """The tree's own error for an OSError met while `doing` ("read", "write") something to `path`."""
    if isinstance(error, FileNotFoundError):
        return FileMissing(f"cannot {doing} it: no such file or folder", path=path)
    reason = (error.strerror or str(error)).lower()
    return FileError(f"cannot {doing} it: {reason}", path=path)
