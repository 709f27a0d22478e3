"""Devices: the cameras of this machine, and what each one offers."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av

from gpenvideo.errors import FileMissing, OptionError

__all__ = ["Device", "Mode", "cameras", "device_address", "modes_in"]

INPUTS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}
LISTED = {  # which option makes an input tell in its log what it offers
    "v4l2": {"list_formats": "all"},
    "avfoundation": {"video_size": "1x1"},  # it is refused, with all that would not be
    "dshow": {"list_options": "true"},
}


@dataclass(frozen=True, slots=True, order=True)
class Mode:
    """One way a camera gives pictures."""

    format: str
    """A codec or a pixel format, by FFmpeg's name; "" where the device does not say."""

    width: int
    height: int
    rate_hz: float | None = None
    """The highest; None where the device does not say."""


@dataclass(frozen=True, slots=True)
class Device:
    """A camera."""

    number: int
    name: str
    address: str
    """What FFmpeg's input takes."""

    modes: tuple[Mode, ...] = ()
    """Empty where it cannot be asked, as while another program uses it."""


def cameras() -> list[Device]:
    """The cameras of this machine, by number."""
    form = _input()
    if form not in av.formats_available and f"video4linux2,{form}" not in av.formats_available:
        return []
    found = [
        (device.description or device.name, device.name)
        for device in av.enumerate_input_devices(form)
        if not device.media_types or "video" in device.media_types
    ]
    if form == "avfoundation":
        found = [(name, str(number)) for number, (name, _) in enumerate(found)]
    if form == "dshow":
        found = [(name, f"video={name}") for name, _ in found]
    return [
        Device(number, name, address, modes_in(form, _told_by(form, address)))
        for number, (name, address) in enumerate(found)
    ]


def device_address(source: str, format: str | None = None) -> tuple[str, str]:
    """The address and the input format of a camera: of a number, a name, or a path.

    Raises FileMissing, which says which cameras there are; OptionError, where this system has none.
    """
    form = format or _input()
    if format is not None and not source.isdecimal():
        return source, form
    if form == "v4l2" and source.startswith("/dev/"):
        found = [source] if Path(source).exists() else []
    elif form == "v4l2" and source.isdecimal():
        found = [f"/dev/video{source}"] if Path(f"/dev/video{source}").exists() else []
    else:
        found = [device.address for device in cameras() if source in (str(device.number), device.name)]
    if not found:
        known = ", ".join(f"{device.number} ({device.name})" for device in cameras()) or "none was found"
        raise FileMissing(f"it is no camera and no file; cameras: {known}", path=source)
    return found[0], form


def _input() -> str:
    if sys.platform not in INPUTS:
        raise OptionError(f"cameras of {sys.platform} are unknown here: give a URL")
    return INPUTS[sys.platform]


def _told_by(form: str, address: str) -> list[str]:
    """The log of an input that is asked what it offers."""
    before = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)
    try:
        with av.logging.Capture() as logs, contextlib.suppress(av.FFmpegError, ValueError):
            av.open(address, format=form, options=LISTED[form], timeout=5.0).close()  # it tells, then fails
        return "".join(message for _, _, message in logs).splitlines()
    finally:
        av.logging.set_level(before)


def modes_in(form: str, lines: Sequence[str]) -> tuple[Mode, ...]:
    """The modes in the log of an input ("v4l2", "avfoundation", "dshow"), each once, as they are told."""
    found: list[Mode] = []
    for line in lines:
        if form == "v4l2":
            found += _of_v4l2(line)
        elif form == "avfoundation":
            found += [
                Mode("", int(match[1]), int(match[2]), float(match[3]))
                for match in re.finditer(r"(\d+)x(\d+)@\[[\d.]+ ([\d.]+)\]fps", line)
            ]
        elif match := re.search(r"(?:pixel_format|vcodec)=(\S+).*max s=(\d+)x(\d+) fps=([\d.]+)", line):
            found.append(Mode(match[1], int(match[2]), int(match[3]), float(match[4])))
    return tuple(dict.fromkeys(found))


def _of_v4l2(line: str) -> list[Mode]:
    """As in "Compressed: mjpeg : Motion-JPEG : 640x480 1280x720" or "... : {32-2592, 2}x{32-1944, 2}"."""
    parts = re.split(r"\s*:\s+", line.split("] ", 1)[-1].strip(), maxsplit=3)
    if len(parts) < 4 or parts[0] not in ("Raw", "Compressed") or parts[1] == "Unsupported":
        return []
    sizes = re.findall(r"(\d+)x(\d+)", parts[3])
    sizes += re.findall(r"\{\d+-(\d+), *\d+\}x\{\d+-(\d+), *\d+\}", parts[3])
    return [Mode(parts[1], int(width), int(height)) for width, height in sizes]
