"""Settings: what is done to a file, from the command line and from the gpenvideo.toml of its folders.

    # films/old/gpenvideo.toml
    strength = 0.8
    codec = "ffv1"

Keys are the options of `gpenvideo restore` by their names there. A file's settings are those of the folder
that was given, overridden by those of each folder from there down to its own, key by key; what is said on the
command line overrides them all.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gpenvideo.errors import OptionError, file_error
from gpenvideo.networks import NetworkOptions
from gpenvideo.pipeline import RestoreOptions
from gpenvideo.presets import with_material
from gpenvideo.segmented.work import Work
from gpenvideo.video.options import Decoding, Encoding

__all__ = ["FILE", "SETTINGS", "folder_settings", "work_of"]

FILE = "gpenvideo.toml"


class _Setting(NamedTuple):
    kind: tuple[type, ...]
    called: str
    group: str
    field: str


def _number(group: str, field: str) -> _Setting:
    return _Setting((int, float), "a number", group, field)


def _whole(group: str, field: str) -> _Setting:
    return _Setting((int,), "a whole number", group, field)


def _text(group: str, field: str) -> _Setting:
    return _Setting((str,), "a text", group, field)


def _flag(group: str, field: str) -> _Setting:
    return _Setting((bool,), "true or false", group, field)


def _moment(field: str) -> _Setting:
    return _Setting((str, int, float), "a number or a text", "decoding", field)


SETTINGS = {
    "material": _text("material", "material"),
    "weights": _text("work", "weights"),
    "detector": _text("work", "detector"),
    "template": _text("networks", "template"),
    "device": _text("networks", "device"),
    "dtype": _text("networks", "dtype"),
    "compile": _flag("networks", "compile"),
    "strength": _number("options", "strength"),
    "select": _text("options", "select"),
    "min-face": _number("options", "min_face_px"),
    "max-faces": _whole("options", "max_faces"),
    "reference": _Setting((list, str), "a text or a list of texts", "options", "reference"),
    "gates": _flag("options", "gates"),
    "temporal": _flag("options", "temporal"),
    "guard": _flag("options", "guard"),
    "upscale": _whole("options", "upscale"),
    "background": _text("options", "background"),
    "color": _text("options", "color"),
    "grain": _Setting((str, int, float), "match, none or a number", "options", "grain"),
    "match-sharpness": _flag("options", "match_sharpness"),
    "detect-size": _whole("options", "detect_size_px"),
    "detect-every": _whole("options", "detect_every"),
    "start": _moment("start"),
    "end": _moment("end"),
    "video-stream": _whole("decoding", "video_stream"),
    "rate": _moment("rate"),
    "strict": _flag("decoding", "strict"),
    "deinterlace": _text("decoding", "deinterlace"),
    "ivtc": _flag("decoding", "ivtc"),
    "prefilter": _text("decoding", "prefilter"),
    "prefilter-output": _flag("decoding", "prefilter_output"),
    "decoder": _text("decoding", "decoder"),
    "codec": _text("encoding", "codec"),
    "crf": _number("encoding", "crf"),
    "preset": _text("encoding", "preset"),
    "pix-fmt": _text("encoding", "pixel_format"),
}


def work_of(source: str, settings: Mapping[str, Any], container: str = ".mkv") -> Work:
    """What is done to a file, for a result of some suffix.

    Args:
        settings: by the names of `SETTINGS`; what is left out or None is the default.

    Raises:
        OptionError: a name or a value that there is not.
    """
    groups: dict[str, dict[str, Any]] = {
        name: {} for name in ("work", "networks", "options", "decoding", "encoding")
    }
    for name, value in with_material(settings.get("material"), settings).items():
        if name != "material":
            known = _known(name)
            groups[known.group][known.field] = value
    if "reference" in groups["options"]:
        groups["options"]["reference"] = tuple(map(str, groups["options"]["reference"]))
    return Work(
        source,
        **groups["work"],
        networks=NetworkOptions(**groups["networks"]),
        options=RestoreOptions(**groups["options"]),
        decoding=Decoding.parsed(**groups["decoding"]),
        encoding=Encoding(**groups["encoding"]),
        container=container,
    )


def folder_settings(folder: Path, base: Path) -> dict[str, Any]:
    """The settings of a folder: those of its own file, and beneath them those of the folders it is in.

    Args:
        folder: of a source.
        base: the folder that was given; what lies above does not count.

    Raises:
        FileError: a file that cannot be read. OptionError: one that is no TOML, a key or a value that is not
        known, in one line.
    """
    settings: dict[str, Any] = {}
    inner = [folder, *folder.parents]
    for place in reversed(inner[: inner.index(base) + 1] if base in inner else [folder]):
        settings |= _read(place / FILE)
    return settings


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise file_error(error, path, "read") from error
    try:
        table = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OptionError(f"it is no TOML: {' '.join(str(error).split())}", path=path) from error
    settings = {name.replace("_", "-"): value for name, value in table.items()}
    try:
        checked = {name: _checked(name, value, path.parent) for name, value in settings.items()}
        work_of("", checked)
    except OptionError as error:
        raise OptionError(error.message, path=path) from error
    return checked


def _checked(name: str, value: Any, folder: Path) -> Any:
    """A value of a file as the command line would have it; paths from the file's folder on."""
    known = _known(name)
    right = isinstance(value, known.kind) and (not isinstance(value, bool) or bool in known.kind)
    if not right:
        raise OptionError(f"{name} is {known.called}, got {value!r}")
    if name in ("start", "end", "rate"):
        return str(value)
    if name == "reference":
        pictures = [value] if isinstance(value, str) else value
        if not all(isinstance(picture, str) for picture in pictures):
            raise OptionError(f"{name} is {known.called}, got {value!r}")
        return [str(Path(folder, picture)) for picture in pictures]
    if name in ("weights", "detector", "background") and Path(folder, value).is_file():
        return str(Path(folder, value))
    return value


def _known(name: str) -> _Setting:
    if name in SETTINGS:
        return SETTINGS[name]
    near = difflib.get_close_matches(name, SETTINGS, 1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(SETTINGS)}"
    raise OptionError(f"there is no setting {name!r}: {hint}")
