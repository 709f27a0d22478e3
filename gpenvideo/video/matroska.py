"""The display size of a Matroska track, put into a finished file: PyAV cannot tell the muxer of it.

Element numbers are those of RFC 9559. The muxer leaves a Void in each video track; what is added comes out of
it, so that nothing else in the file moves.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["set_display_size"]

SEGMENT, TRACKS, TRACK, VIDEO = 0x18538067, 0x1654AE6B, 0xAE, 0xE0
NUMBER, CRC, VOID, CLUSTER = 0xD7, 0xBF, 0xEC, 0x1F43B675
DISPLAY_WIDTH, DISPLAY_HEIGHT, DISPLAY_UNIT = 0x54B0, 0x54BA, 0x54B2
HEAD_BYTES = 1 << 20  # of the file; the tracks lie near its beginning


class Element(NamedTuple):
    """Where an element lies: its number, its first byte, that of its content, and its end."""

    number: int
    start: int
    content: int
    end: int


def set_display_size(path: Path, track: int, width: int, height: int) -> bool:
    """Write the size at which a track (by its number, from 1) is shown; False where there is no room."""
    if not (0 < width < 1 << 16 and 0 < height < 1 << 16):
        return False
    with path.open("r+b") as file:
        head = bytearray(file.read(HEAD_BYTES))
        tracks = _find(head, _find(head, Element(0, 0, 0, len(head)), SEGMENT), TRACKS)
        for entry in _children(head, tracks):
            number = _find(head, entry, NUMBER) if entry.number == TRACK else None
            if number is not None and int.from_bytes(head[number.content : number.end], "big") == track:
                if tracks is None or not _resized(head, tracks, entry, width, height):
                    return False
                file.seek(tracks.start)
                file.write(head[tracks.start : tracks.end])
                return True
    return False


def _resized(head: bytearray, tracks: Element, entry: Element, width: int, height: int) -> bool:
    video, void = _find(head, entry, VIDEO), _find(head, entry, VOID)
    if video is None or void is None or void.start < video.end:
        return False
    kept = b"".join(
        head[child.start : child.end]
        for child in _children(head, video)
        if child.number not in (DISPLAY_WIDTH, DISPLAY_HEIGHT, DISPLAY_UNIT)
    )
    size = _uint(DISPLAY_WIDTH, width) + _uint(DISPLAY_HEIGHT, height)
    made = _element(VIDEO, kept + size) + head[video.end : void.start]
    room = void.end - video.start - len(made)
    if room < 2 or room > 128:
        return False
    made += _element(VOID, bytes(room - 2))
    head[video.start : void.end] = made
    check = _find(head, tracks, CRC)
    if check is not None:
        head[check.content : check.end] = zlib.crc32(head[check.end : tracks.end]).to_bytes(4, "little")
    return True


def _uint(number: int, value: int) -> bytes:
    return _element(number, value.to_bytes(2, "big"))


def _element(number: int, content: bytes) -> bytes:
    """With a size of one byte, for content below 127 bytes."""
    return number.to_bytes((number.bit_length() + 7) // 8, "big") + bytes([0x80 | len(content)]) + content


def _find(head: bytearray, parent: Element | None, number: int) -> Element | None:
    return next((child for child in _children(head, parent) if child.number == number), None)


def _children(head: bytearray, parent: Element | None) -> Iterator[Element]:
    place = len(head) if parent is None else parent.content
    end = 0 if parent is None else min(parent.end, len(head))
    while place + 2 <= end:
        number, content = _number(head, place, keep=True)
        size, content = _number(head, content, keep=False)
        if number == CLUSTER:
            return
        yield Element(number, place, content, content + size)
        place = content + size


def _number(head: bytearray, place: int, *, keep: bool) -> tuple[int, int]:
    """A variable-size integer and the place after it; an element's number keeps its length marker."""
    length = 9 - head[place].bit_length()
    value = int.from_bytes(head[place : place + length], "big")
    return (value if keep else value & ((1 << 7 * length) - 1)), place + length
