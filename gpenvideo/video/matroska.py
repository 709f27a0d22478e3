"""What PyAV cannot tell Matroska's muxer, put into a finished file; and what that muxer tells of a stream.

Display size and static HDR metadata belong into a track's header. Element numbers are those of RFC 9559. A
track's header keeps its length, so that nothing else in the file moves: what is added comes out of the Void
that the muxer leaves in it, and out of spaces at the end of its name (`NAME_ROOM`), which nobody sees.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["NAME_ROOM", "set_track", "siting_in"]

SEGMENT, TRACKS, TRACK, VIDEO = 0x18538067, 0x1654AE6B, 0xAE, 0xE0
NUMBER, NAME, CRC, VOID, CLUSTER = 0xD7, 0x536E, 0xBF, 0xEC, 0x1F43B675
DISPLAY_WIDTH, DISPLAY_HEIGHT, DISPLAY_UNIT = 0x54B0, 0x54BA, 0x54B2
COLOUR, SITING_ACROSS, SITING_DOWN = 0x55B0, 0x55B7, 0x55B8
MOST_LIGHT, MEAN_LIGHT, MASTERING, LEAST, MOST = 0x55BC, 0x55BD, 0x55D0, 0x55DA, 0x55D9
CHROMATICITIES = range(0x55D1, 0x55D9)  # red x, red y, green x, ..., white y
HEAD_BYTES = 1 << 20  # of the file; the tracks lie near its beginning

NAME_ROOM = " " * 160
"""At the end of a track's name: room enough for all HDR metadata."""


class Element(NamedTuple):
    """Where an element lies: its number, its first byte, that of its content, and its end."""

    number: int
    start: int
    content: int
    end: int


def set_track(
    path: Path, track: int, *, display: tuple[int, int] | None = None, hdr: Mapping[str, Any] | None = None
) -> bool:
    """Write into the header of a track (by its number, from 1); False where there is no room.

    Args:
        display: width and height at which it is shown.
        hdr: static HDR metadata, as `gpenvideo.video.description.hdr_of` gives it.
    """
    if display is not None and not (0 < display[0] < 1 << 16 and 0 < display[1] < 1 << 16):
        return False
    with path.open("r+b") as file:
        head = bytearray(file.read(HEAD_BYTES))
        tracks = _find(head, _find(head, Element(0, 0, 0, len(head)), SEGMENT), TRACKS)
        for entry in _children(head, tracks):
            number = _find(head, entry, NUMBER) if entry.number == TRACK else None
            if number is not None and int.from_bytes(head[number.content : number.end], "big") == track:
                if tracks is None or not _rewritten(head, tracks, entry, display, hdr or {}):
                    return False
                file.seek(tracks.start)
                file.write(head[tracks.start : tracks.end])
                return True
    return False


def siting_in(head: bytes) -> tuple[float, float] | None:
    """Where the first track of a file says that its chroma lies, luma samples; None: it does not say."""
    place: Element | None = Element(0, 0, 0, len(head))
    for number in (SEGMENT, TRACKS, TRACK, VIDEO, COLOUR):
        place = _find(head, place, number)
    told = [_find(head, place, number) for number in (SITING_ACROSS, SITING_DOWN)]
    values = [0 if at is None else int.from_bytes(head[at.content : at.end], "big") for at in told]
    return ((values[0] - 1) / 2, (values[1] - 1) / 2) if set(values) <= {1, 2} else None


def _rewritten(
    head: bytearray,
    tracks: Element,
    entry: Element,
    display: tuple[int, int] | None,
    hdr: Mapping[str, Any],
) -> bool:
    """The header of a track with more in it and the same length."""
    made = b""
    for child in _children(head, entry):
        content = bytes(head[child.content : child.end])
        if child.number == VIDEO:
            made += _element(VIDEO, _video(head, child, display, hdr))
        elif child.number == NAME and (kept := content.rstrip(b" ")):
            made += _element(NAME, kept)
        elif child.number not in (VOID, NAME):
            made += head[child.start : child.end]
    room = entry.end - entry.content - len(made)
    if room < 0 or room == 1:
        return False
    head[entry.content : entry.end] = made + _void(room)
    check = _find(head, tracks, CRC)
    if check is not None:
        head[check.content : check.end] = zlib.crc32(head[check.end : tracks.end]).to_bytes(4, "little")
    return True


def _video(head: bytearray, video: Element, display: tuple[int, int] | None, hdr: Mapping[str, Any]) -> bytes:
    shown = (DISPLAY_WIDTH, DISPLAY_HEIGHT, DISPLAY_UNIT) if display else ()
    colour = _find(head, video, COLOUR) if hdr else None
    kept = b"".join(
        head[child.start : child.end]
        for child in _children(head, video)
        if child.number not in shown and child != colour
    )
    if display:
        kept += _uint(DISPLAY_WIDTH, display[0]) + _uint(DISPLAY_HEIGHT, display[1])
    if hdr:
        told = b"" if colour is None else bytes(head[colour.content : colour.end])
        kept += _element(COLOUR, told + _hdr(hdr))
    return kept


def _hdr(hdr: Mapping[str, Any]) -> bytes:
    """The elements of static HDR metadata."""
    made = b""
    if "light" in hdr:
        made += _uint(MOST_LIGHT, hdr["light"][0]) + _uint(MEAN_LIGHT, hdr["light"][1])
    mastering = hdr.get("mastering", {})
    values = {}
    if "primaries" in mastering:
        points = [*mastering["primaries"], mastering["white"]]
        values = dict(zip(CHROMATICITIES, [value for point in points for value in point], strict=True))
    if "luminance" in mastering:
        values |= dict(zip((LEAST, MOST), mastering["luminance"], strict=True))
    floats = b"".join(_element(number, struct.pack(">d", value)) for number, value in values.items())
    return made + (_element(MASTERING, floats) if floats else b"")


def _void(room: int) -> bytes:
    """A Void of so many bytes, 0 or 2 and more."""
    if room < 2:
        return b""
    if room < 128:
        return _element(VOID, bytes(room - 2))
    return bytes([VOID]) + (room - 9 | 1 << 56).to_bytes(8, "big") + bytes(room - 9)


def _uint(number: int, value: int) -> bytes:
    return _element(number, value.to_bytes(2 if value < 1 << 16 else 4, "big"))


def _element(number: int, content: bytes) -> bytes:
    length, size = len(content), 1 if len(content) < 127 else 2
    head = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return head + (length | 1 << 7 * size).to_bytes(size, "big") + content


def _find(head: bytes | bytearray, parent: Element | None, number: int) -> Element | None:
    return next((child for child in _children(head, parent) if child.number == number), None)


def _children(head: bytes | bytearray, parent: Element | None) -> Iterator[Element]:
    place = len(head) if parent is None else parent.content
    end = 0 if parent is None else min(parent.end, len(head))
    while place + 2 <= end:
        number, content = _number(head, place, keep=True)
        size, content = _number(head, content, keep=False)
        if number == CLUSTER:
            return
        yield Element(number, place, content, content + size)
        place = content + size


def _number(head: bytes | bytearray, place: int, *, keep: bool) -> tuple[int, int]:
    """A variable-size integer and the place after it; an element's number keeps its length marker."""
    length = 9 - head[place].bit_length()
    value = int.from_bytes(head[place : place + length], "big")
    return (value if keep else value & ((1 << 7 * length) - 1)), place + length
