"""A film for tests: three shots, a face for longer than two periods, sound, text and chapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
from clips import write_clip
from portraits import decoded_planes, portrait, scenery

RATE_HZ, SIZE, FRAMES = 5, (160, 120), 220
CUTS = (130, 150)  # the first shot takes 26 s, the second, without a face, 4 s, the last 14 s


def film_frame(number: int) -> av.VideoFrame:
    """A picture of the film: noise is in all of them, as else there is nothing to be averaged out."""
    width, height = SIZE
    if CUTS[0] <= number < CUTS[1]:
        rgb = scenery(width, height)
    else:
        side = round(1.9 * width)
        x = round(0.25 * side + 6 * np.sin(number / 9))
        y = round(0.04 * side + 4 * np.sin(number / 7))
        rgb = portrait(side)[y : y + height, x : x + width]
    if number >= CUTS[1]:
        rgb = rgb[:, ::-1]
    noise = np.random.default_rng(number).normal(0, 4, rgb.shape)
    noisy = np.clip(rgb + noise, 0, 255).astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(noisy), format="rgb24")
    return frame.reformat(format="yuv420p", threads=1)


def write_film(path: Path, frames: int = FRAMES, **more: Any) -> Path:
    """The film, or its beginning, as FFV1 by default; see `clips.write_clip`."""
    length_s = frames / RATE_HZ
    given: dict[str, Any] = {"codec": "ffv1", "gop": 12, "audio": 1, "subtitles": ("eng",)}
    given |= {"chapters": [(0, length_s / 2, "one"), (length_s / 2, length_s, "two")]}
    return write_clip(path, size=SIZE, frames=frames, rate=RATE_HZ, picture=film_frame, **given | more)


def all_packets(path: Path) -> dict[int, list[Any]]:
    """Every packet by its stream, with its times."""
    found: dict[int, list[Any]] = {}
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.size:
                times = packet.pts, packet.dts, packet.duration, packet.is_keyframe
                found.setdefault(packet.stream_index, []).append((*times, bytes(packet)))
    return found


def assert_same(one: Path, other: Path) -> None:
    """All planes, pts and copied packets: all packets, in fact."""
    was, now = decoded_planes(one), decoded_planes(other)
    assert list(now) == list(was)
    differing = [
        pts for pts in was if not all(np.array_equal(a, b) for a, b in zip(was[pts], now[pts], strict=True))
    ]
    assert differing == []
    assert all_packets(other) == all_packets(one)
