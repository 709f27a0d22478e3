"""The files that the documentation's examples name, made small: a reader's films, pictures and networks.

Everything shows scikit-image's astronaut (Eileen Collins, NASA, public domain). The checkpoints have random
weights: their pictures mean nothing, their plumbing is real.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from clips import write_clip
from numpy.typing import NDArray
from PIL import Image
from portraits import portrait

SIZE = (192, 144)
RATE_HZ = 25
MOMENTS = (*range(12), *range(1560, 1568))  # a film that goes on a minute later: examples name such times
Turn = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
NETWORKS = {
    **{"GPEN-BFR-256.pth": 32, "GPEN-BFR-512.pth": 64, "GPEN-BFR-2048.pth": 128},
    **{"GPEN-Colorization-1024.pth": 64, "GPEN-Inpainting-1024.pth": 64},
}


def view(number: float, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    """The portrait at a moment: it drifts over a part of a pixel and more, her face is some 30 px wide."""
    width, height = size
    side = round(1.6 * width)
    x, y = round(0.05 * side + 2 * number), round(0.03 * side + number)
    return np.ascontiguousarray(portrait(side)[y : y + height, x : x + width])


def as_video(rgb: NDArray[np.uint8], form: str = "yuv420p") -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
    return frame.reformat(format=form, threads=1)


def film(
    number: int, noise: float = 3.0, turn: Turn = lambda rgb: rgb, form: str = "yuv420p"
) -> av.VideoFrame:
    """A frame with a little noise of its own."""
    rgb = view(number) + np.random.default_rng(number).normal(0, noise, (*SIZE[::-1], 1))
    return as_video(turn(np.clip(rgb, 0, 255).astype(np.uint8)), form)


def grey(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Without colour."""
    return np.repeat((rgb @ (0.299, 0.587, 0.114)).astype(np.uint8)[..., None], 3, axis=2)


def sepia(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Of one tint."""
    return np.clip(grey(rgb) * (1.07, 0.95, 0.78), 0, 255).astype(np.uint8)


def soft(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Out of focus."""
    return np.asarray(cv2.GaussianBlur(rgb, (0, 0), 1.2))


def fields(number: int) -> av.VideoFrame:
    """Two moments in one frame, the upper line first, as a video camera wrote them."""
    rgb = view(2 * number)
    rgb[1::2] = view(2 * number + 1)[1::2]
    return as_video(rgb)


def pulled(number: int) -> av.VideoFrame:
    """Film at 24 frames a second in the fields of 30: of five frames two are of two moments."""
    first, second = {0: (0, 0), 1: (1, 1), 2: (1, 2), 3: (2, 3), 4: (3, 3)}[number % 5]
    begins = 4 * (number // 5)
    rgb = view(2 * (begins + first))
    rgb[1::2] = view(2 * (begins + second))[1::2]
    return as_video(rgb)


def write_material(folder: Path) -> Path:
    """All of it, into a folder; returns the folder."""
    lossy: dict[str, Any] = {"codec": "libx264", "gop": 6, "size": SIZE, "rate": RATE_HZ}
    lossy |= {"matrix": 6, "primaries": 6, "transfer": 6, "full_range": False}
    film_: dict[str, Any] = {"pts": MOMENTS, "time_base": Fraction(1, RATE_HZ), "audio": 1, "audio_s": 0.8}
    film_ |= {"subtitles": ("eng",), "picture": film} | lossy
    write_clip(folder / "film.mkv", chapters=[(0, 30, "one"), (30, 63, "two")], **film_)
    for name in ("old.mkv", "long.mkv", "reel.mkv"):
        shutil.copy(folder / "film.mkv", folder / name)
    for name in ("old.mp4", "old.mov", "small.mp4"):
        write_clip(folder / name, **(film_ | {"subtitles": ()}))
    short: dict[str, Any] = {"frames": 12} | lossy
    write_clip(folder / "bw.mkv", picture=lambda i: film(i, turn=grey), **short)
    write_clip(folder / "sepia.mkv", picture=lambda i: film(i, turn=sepia), **short)
    write_clip(folder / "grainy.mkv", picture=lambda i: film(i, noise=12), **short)
    write_clip(folder / "truth.mkv", picture=lambda i: film(i, noise=0), **short)
    write_clip(folder / "bad.mkv", picture=lambda i: film(i, noise=8, turn=soft), **short)
    write_clip(folder / "webcam.mkv", picture=film, **(short | {"frames": 30}))
    hdr = {"codec": "ffv1", "pix_fmt": "yuv420p10le", "matrix": 9, "primaries": 9, "transfer": 16}
    write_clip(folder / "hdr.mkv", picture=lambda i: film(i, form="yuv420p10le"), **(short | hdr))
    combed = short | {"codec": "ffv1", "frames": 20}
    write_clip(folder / "tape.mkv", picture=fields, **combed)
    write_clip(folder / "tape.mpg", picture=fields, **(combed | {"codec": "mpeg2video"}))
    for name in ("dvd.mkv", "telecined.mkv"):
        write_clip(folder / name, picture=pulled, **(combed | {"rate": Fraction(30000, 1001)}))
    _write_films(folder / "films", short)
    _write_pictures(folder)
    _write_networks(folder)
    return folder


def _write_films(folder: Path, short: dict[str, Any]) -> None:
    (folder / "1954").mkdir(parents=True)
    write_clip(folder / "reel1.mkv", picture=film, **short)
    write_clip(folder / "1954" / "reel2.mkv", picture=lambda i: film(i + 20, turn=grey), **short)


def _write_pictures(folder: Path) -> None:
    face = portrait(512)[20:190, 140:310]
    for name in ("album", "scan", "faces", "set/truth"):
        (folder / name).mkdir(parents=True)
    for name in ("photo.jpg", "old.jpg", "album/one.jpg", "album/two.jpg", "who.jpg"):
        Image.fromarray(portrait(256)[:150]).save(folder / name, quality=90)
    for number in range(4):
        picture = np.roll(face, 3 * number, axis=1)[:, :: 1 - 2 * (number % 2)]
        Image.fromarray(np.ascontiguousarray(picture)).resize((256, 256)).save(folder / f"faces/{number}.png")
    small = Image.fromarray(face).resize((256, 256))
    mask = np.zeros((256, 256), np.uint8)
    mask[150:180, 90:150] = 255
    small.save(folder / "face.png")
    small.save(folder / "holes.png")
    small.convert("L").save(folder / "grey.png")
    Image.fromarray(mask).save(folder / "mask.png")
    for name in ("one", "two"):
        Image.fromarray(portrait(320)[:200]).save(folder / "set" / "truth" / f"{name}.png")
    for number in range(6):
        context = av.CodecContext.create("dpx", "w")
        context.width, context.height, context.pix_fmt = *SIZE, "gbrp10le"
        context.time_base = Fraction(1, 24)
        frame = av.VideoFrame.from_ndarray(view(number), format="rgb24").reformat(format="gbrp10le")
        frame.pts, frame.time_base = 0, Fraction(1, 24)
        data = b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])
        (folder / "scan" / f"frame_{number:06d}.dpx").write_bytes(data)


def _write_networks(folder: Path) -> None:
    import torch

    from gpenvideo.gpen import GPEN, GPENConfig, checkpoint

    torch.manual_seed(0)
    for name, size_px in NETWORKS.items():
        levels = size_px.bit_length() - 2
        checkpoint.save(
            GPEN(GPENConfig(size_px, size_px, (8,) * levels, style_dim=16, mapping_layers=2)), folder / name
        )
