"""The file of tracks: JSON with a line for each shot and track, which a person edits, and numbers below.

{
"version": 1,
"source": {"name": "film.mkv", "bytes": 1234, "stream": 0, "size_px": [640, 360], ...},
"analysed": {"first_pts": 0, "last_pts": 480, "frames": 13},
"shots": [
{"pts": 0, "time_s": 0.0}
],
"tracks": [
{"id": 1, "skip": false, "strength": 1.0, "weights": null, "person": 0, "shot": 1, "first_s": 0.0, ...}
],
"faces": {
"1": {"pts": [0, 40, ...],
"box": [four numbers a frame, ...],
...}
}
}

A person may change skip, strength, weights and person; all else is checked against the numbers. Numbers
are written with as many digits as they need to come back exactly.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from os import PathLike
from pathlib import Path
from statistics import fmean
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from gpenvideo.errors import OptionError, file_error
from gpenvideo.place import write_json
from gpenvideo.tracks.document import FACE, Source, Track, Tracks
from gpenvideo.tracks.pictures import Seen

__all__ = ["read_tracks", "write_tracks"]

VERSION = 1
FARTHEST_PX = 1e6  # from a picture's corner that a face may lie
BOUND = 2**62  # of any number

Check = Callable[[Any, str], Any]


def write_tracks(tracks: Tracks, path: str | PathLike[str]) -> None:
    """Write the file; one that is there is replaced when the new one is whole. FileError."""
    write_json("\n".join(_lines(tracks)), path)


def read_tracks(path: str | PathLike[str]) -> Tracks:
    """Read what `write_tracks` wrote and a person may have edited.

    Raises:
        FileError, FileMissing: it cannot be read.
        OptionError: something in it is not as it should be; the line says what, and of which track.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise file_error(error, path, "read") from error
    except UnicodeDecodeError as error:
        raise OptionError("it is no file of tracks: it is not text in UTF-8", path=path) from error
    try:
        return _tracks(_parsed(text))
    except OptionError as error:
        raise OptionError(error.message, path=path) from error


def _lines(tracks: Tracks) -> Iterator[str]:
    source = tracks.source
    base = source.time_base
    facts = {"name": source.name, "bytes": source.bytes, "stream": source.stream, "size_px": source.size_px}
    facts |= {"time_base": f"{base.numerator}/{base.denominator}", "frames": source.frames}
    part = {"first_pts": tracks.first_pts, "last_pts": tracks.last_pts, "frames": tracks.frames}
    yield f'{{\n"version": {VERSION},\n"source": {json.dumps(facts)},\n"analysed": {json.dumps(part)},'
    yield '"shots": ['
    yield ",\n".join(json.dumps({"pts": pts, "time_s": _second(tracks, pts)}) for pts in tracks.shots)
    yield '],\n"tracks": ['
    yield ",\n".join(json.dumps({**_wishes(track), **_facts(tracks, track)}) for track in tracks.tracks)
    yield '],\n"faces": {'
    yield ",\n".join(_numbers(track) for track in tracks.tracks)
    yield "}" + (f',\n"pictures": {json.dumps(tracks.pictures)}' if tracks.pictures else "")
    yield "}"


def _wishes(track: Track) -> dict[str, Any]:
    wishes = {"skip": track.skip, "strength": track.strength, "weights": track.weights}
    return {"id": track.id, **wishes, "person": track.person}


def _facts(tracks: Tracks, track: Track) -> dict[str, Any]:
    """What is told of a track beside its numbers, for a person."""
    box = track.faces["box"]
    return {
        "shot": tracks.shot(track),
        "first_s": _second(tracks, track.first_pts),
        "last_s": _second(tracks, track.last_pts),
        "frames": len(track.faces),
        "score": round(fmean(track.faces["score"].tolist()), 3),
        "width_px": round(fmean((box[:, 2] - box[:, 0]).tolist()), 1),
    }


def _second(tracks: Tracks, pts: int) -> float:
    return round(tracks.time_s(pts), 3)


def _numbers(track: Track) -> str:
    lines = []
    for name in FACE.names or ():
        values = track.faces[name].ravel()
        scalars = values if values.dtype == np.float32 else values.tolist()  # as short as they can be
        lines.append(f'"{name}": [{", ".join(map(str, scalars))}]')
    return f'"{track.id}": {{' + ",\n".join(lines) + "}"


def _parsed(text: str) -> Any:
    def whole(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise OptionError(f"{_short(twice)} is there twice in one place: keep one")
        return found

    try:
        return json.loads(text, object_pairs_hook=whole)
    except json.JSONDecodeError as error:
        raise OptionError(f"line {error.lineno} is no JSON: {error.msg.lower()}") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, OptionError):
            raise
        raise OptionError("it is no file of tracks: its JSON cannot be read") from error


def _tracks(document: Any) -> Tracks:
    if isinstance(document, dict) and document.get("version", VERSION) != VERSION:
        raise OptionError(
            f"it is a file of tracks of version {_short(document['version'])}, and this program knows "
            f"{VERSION}: make it anew with `gpenvideo tracks`"
        )
    whole = _object(
        document, "the document",
        {"version": _whole, "source": _source, "analysed": _part, "shots": _shots, "tracks": _list,
         "faces": _faces, "pictures": _pictures},
        {"pictures": []},
    )  # fmt: skip
    faces = whole["faces"]
    told = [_told(entry, f"tracks[{place}]") for place, entry in enumerate(whole["tracks"])]
    for id in faces.keys() - {line["id"] for line in told}:
        raise OptionError(f'track {id} has faces and no line: to leave a track out, say "skip": true')
    tracks = []
    for line in told:
        if line["id"] not in faces:
            raise OptionError(f"track {line['id']} has no faces")
        wishes = {name: line[name] for name in ("id", "person", "skip", "strength", "weights")}
        tracks.append(Track(faces=faces[line["id"]], **wishes))
    pts = tuple(shot["pts"] for shot in whole["shots"])
    made = Tracks(
        whole["source"], **whole["analysed"], shots=pts, tracks=tuple(tracks), pictures=whole["pictures"]
    )
    for shot in whole["shots"]:
        _compare("shots", shot, {"time_s": _second(made, shot["pts"])})
    tracks_by_id = {track.id: track for track in made.tracks}
    for line in told:
        _compare(f"track {line['id']}", line, _facts(made, tracks_by_id[line["id"]]))
    return made


def _compare(where: str, told: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """What is told for a person cannot be edited: OptionError where it was."""
    for name, fact in facts.items():
        if told[name] != fact:
            raise OptionError(
                f"{where}: {name} is {fact} and cannot be changed to {told[name]}; "
                "what can be is skip, strength, weights and person"
            )


def _told(entry: Any, where: str) -> dict[str, Any]:
    """A track's line, checked."""
    if isinstance(entry, dict) and type(entry.get("id")) is int:
        where = f"track {entry['id']}"
    usual = {"skip": False, "strength": 1.0, "weights": None, "person": 0}
    checks: dict[str, Check] = {"id": _whole, "skip": _flag, "strength": _number, "weights": _name}
    checks |= {"person": _whole, "shot": _whole, "first_s": _number, "last_s": _number, "frames": _whole}
    checks |= {"score": _number, "width_px": _number}
    return _object(usual | entry if isinstance(entry, dict) else entry, where, checks)


def _source(value: Any, where: str) -> Source:
    checks = {"name": _text, "bytes": _count_or_none, "stream": _count_or_none, "size_px": _size}
    return Source(**_object(value, where, checks | {"time_base": _time_base, "frames": _count_or_none}))


def _part(value: Any, where: str) -> dict[str, Any]:
    return _object(value, where, {"first_pts": _whole, "last_pts": _whole, "frames": _whole})


def _shots(value: Any, where: str) -> list[dict[str, Any]]:
    checks = {"pts": _whole, "time_s": _number}
    return [_object(shot, f"{where}[{place}]", checks) for place, shot in enumerate(_list(value, where))]


def _pictures(value: Any, where: str) -> tuple[Seen, ...]:
    found = _list(value, where)
    for entry in found:
        if not (isinstance(entry, list) and len(entry) == 3 and all(map(_is_whole, entry))):
            _wrong(entry, where, "lists of three whole numbers")
    return tuple(Seen(*entry) for entry in found)


def _faces(value: Any, where: str) -> dict[int, NDArray[Any]]:
    """Every track's numbers, by id."""
    if not isinstance(value, dict):
        _wrong(value, where, "an object with an entry for each track")
    found = {}
    for key, numbers in value.items():
        if not re.fullmatch(r"[1-9]\d{0,17}", key, re.ASCII):
            _wrong(key, where, "an object whose keys are the ids of tracks")
        lists = _object(numbers, f"the faces of track {key}", dict.fromkeys(FACE.names or (), _list))
        found[int(key)] = _rows(lists, f"track {key}")
    return found


def _rows(lists: dict[str, list[Any]], where: str) -> NDArray[Any]:
    """(N,) of `FACE` from flat lists."""
    rows = np.empty(len(lists["pts"]), FACE)
    for name, values in lists.items():
        shape = rows[name].shape
        if len(values) != rows[name].size:
            raise OptionError(f"{where}: {name} has {len(values)} numbers, and not {rows[name].size}")
        whole = name == "pts"
        kinds = (int,) if whole else (int, float)
        odd = [value for value in values if type(value) not in kinds or not -BOUND < value < BOUND]
        if odd:
            _wrong(odd[0], f"{where}: {name}", "whole numbers" if whole else "numbers")
        array = np.array(values, np.int64 if whole else np.float64)
        if name in ("box", "landmarks") and (np.abs(array) > FARTHEST_PX).any():
            raise OptionError(f"{where}: {name} lies more than {FARTHEST_PX:.0e} px away")
        rows[name] = array.reshape(shape)
    return rows


def _object(
    value: Any, where: str, checks: Mapping[str, Check], usual: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The checked values of an object that has these keys and no other; what is `usual` may be left out."""
    if not isinstance(value, dict):
        _wrong(value, where, "an object, {...}")
    value = {**(usual or {}), **value}
    for name in value:
        if name not in checks:
            near = difflib.get_close_matches(name, checks, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f": it has {', '.join(checks)}"
            raise OptionError(f"{where} has no {_short(name)}{hint}")
    for name in checks:
        if name not in value:
            raise OptionError(f"{where} lacks {name!r}")
    return {name: check(value[name], f"{where}: {name}") for name, check in checks.items()}


def _is_whole(value: Any) -> bool:
    return type(value) is int and -BOUND < value < BOUND


def _whole(value: Any, where: str) -> int:
    return int(value) if _is_whole(value) else _wrong(value, where, "a whole number")


def _count_or_none(value: Any, where: str) -> int | None:
    if value is None or (_is_whole(value) and value >= 0):
        return None if value is None else int(value)
    _wrong(value, where, "a whole number, 0 or more, or null")


def _number(value: Any, where: str) -> float:
    if type(value) is float or _is_whole(value):
        return float(value)
    _wrong(value, where, "a number")


def _flag(value: Any, where: str) -> bool:
    return value if isinstance(value, bool) else _wrong(value, where, "true or false")


def _text(value: Any, where: str) -> str:
    return value if isinstance(value, str) else _wrong(value, where, "a text")


def _name(value: Any, where: str) -> str | None:
    return value if value is None or isinstance(value, str) else _wrong(value, where, "a text or null")


def _list(value: Any, where: str) -> list[Any]:
    return value if isinstance(value, list) else _wrong(value, where, "a list, [...]")


def _size(value: Any, where: str) -> tuple[int, int]:
    if isinstance(value, list) and len(value) == 2 and all(_is_whole(side) and side > 0 for side in value):
        return value[0], value[1]
    _wrong(value, where, "a width and a height")


def _time_base(value: Any, where: str) -> Fraction:
    if isinstance(value, str) and re.fullmatch(r"[1-9]\d{0,11}/[1-9]\d{0,11}", value, re.ASCII):
        return Fraction(value)
    _wrong(value, where, 'seconds a tick, like "1/1000"')


def _wrong(value: Any, where: str, wanted: str) -> NoReturn:
    raise OptionError(f"{where} is to be {wanted}, got {_short(value)}")


def _short(value: Any) -> str:
    """A value as JSON in a few characters."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and not _is_whole(value) and not isinstance(value, bool):
        return "a number of many digits"
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:36]}...{text[-1]}"
