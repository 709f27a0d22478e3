"""Picture files: read upright at their own depth, written with what they came with."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from gpenvideo.errors import FileError, MediaError, OptionError, file_error

__all__ = ["SUFFIXES", "Picture", "Pixels", "as_uint8", "check_suffix", "read_picture", "write_picture"]

Pixels = NDArray[Any]  # uint8 or uint16

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
DEEP_SUFFIXES = (".png", ".tif", ".tiff")  # hold 16 bits
MOST_PIXELS = 1 << 28
ORIENTATION = 0x0112  # the EXIF tag


@dataclass(frozen=True)
class Picture:
    """A still picture, upright: its pixels and what else its file held."""

    rgb: Pixels
    """(H, W, 3) RGB, uint8 or uint16 over its full range."""

    alpha: Pixels | None = None
    """(H, W) of the same dtype; None where the file has none."""

    grey: bool = False
    """The file holds one channel: it is written back so."""

    icc_profile: bytes | None = None
    exif: bytes | None = None
    """The EXIF block, its orientation set to upright."""


def read_picture(path: str | PathLike[str]) -> Picture:
    """Read a picture file, upright, at its own depth.

    Raises FileError when it cannot be read, MediaError when it is no picture gpenvideo can restore.
    """
    try:
        data = Path(path).read_bytes()
    except IsADirectoryError as error:
        raise FileError("it is a folder; name a picture", path=path) from error
    except OSError as error:
        raise file_error(error, path, "read") from error
    if not data:
        raise MediaError("it is empty", path=path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is checked below
            image = Image.open(io.BytesIO(data))
        if image.width * image.height > MOST_PIXELS:
            raise MediaError(f"{image.width}x{image.height} px is more than gpenvideo takes")
        if getattr(image, "n_frames", 1) > 1:
            raise MediaError("it holds several pictures; restore it as a video")
        return _decoded(image, data)
    except MediaError as error:
        raise MediaError(error.message, path=path) from error
    except UnidentifiedImageError as error:
        raise MediaError("it is no picture that gpenvideo can read", path=path) from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, cv2.error) as error:
        raise MediaError(f"it is damaged ({str(error).splitlines()[0]})", path=path) from error


def _decoded(image: Image.Image, data: bytes) -> Picture:
    exif = image.getexif()
    orientation = exif.get(ORIENTATION, 1)
    exif[ORIENTATION] = 1
    kept = {
        "icc_profile": image.info.get("icc_profile"),
        "exif": exif.tobytes() if len(exif) > 1 or orientation != 1 else None,
    }
    image.load()
    if image.mode in ("F", "I", "CMYK", "YCbCr", "LAB", "HSV"):
        if image.mode in ("F", "I"):
            raise MediaError(f"its pixels are {image.mode} (32 bits): convert it to 8 or 16 bits first")
        kept["icc_profile"] = None  # the profile is of the other colour space
        image = image.convert("RGB")
    if image.format in ("PNG", "TIFF"):  # Pillow reads 16-bit colour as 8
        flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
        deep = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        if deep is not None and deep.dtype == np.uint16:
            return _from_array(_upright(deep, orientation), **kept)
    if image.mode.startswith("I;16"):
        return _from_array(_upright(np.asarray(image).astype(np.uint16), orientation), **kept)
    transparent = "A" in image.getbands() or "transparency" in image.info
    grey = image.mode in ("L", "LA", "1")
    image = image.convert("RGBA" if transparent else "RGB")
    pixels = _upright(np.asarray(image), orientation)
    alpha = np.ascontiguousarray(pixels[..., 3]) if transparent else None
    return Picture(np.ascontiguousarray(pixels[..., :3]), alpha, grey, **kept)


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Stored pixels turned as the EXIF orientation (1 to 8) says they are to be seen."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _from_array(pixels: Pixels, *, icc_profile: bytes | None, exif: bytes | None) -> Picture:
    """A picture from OpenCV's channel order: grey, BGR or BGRA."""
    if pixels.ndim == 2:
        return Picture(np.dstack([pixels] * 3), None, True, icc_profile, exif)
    alpha = np.ascontiguousarray(pixels[..., 3]) if pixels.shape[2] == 4 else None
    return Picture(np.ascontiguousarray(pixels[..., 2::-1]), alpha, False, icc_profile, exif)


def write_picture(picture: Picture, path: str | PathLike[str]) -> None:
    """Write a picture in the format that the suffix names; beside first, then renamed.

    16 bits are kept by PNG and TIFF and rounded to 8 by the others; alpha by all but JPEG, with a warning.
    JPEG is written at quality 95 without chroma sub-sampling, WebP without loss.

    Raises OptionError for another suffix, FileError when it cannot be written.
    """
    path = Path(path)
    data = _encoded(picture, check_suffix(path))
    beside = path.with_name(path.name + ".part")
    try:
        beside.write_bytes(data)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise file_error(error, path, "write") from error


def check_suffix(path: str | PathLike[str]) -> str:
    """The suffix of a picture to write, lower case; OptionError when it names no format written here."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise OptionError(f"write to one of {', '.join(SUFFIXES)}", path=path)
    return suffix


def _encoded(picture: Picture, suffix: str) -> bytes:
    rgb, alpha = picture.rgb, picture.alpha
    if suffix in (".jpg", ".jpeg") and alpha is not None:
        warnings.warn("JPEG holds no transparency: the alpha channel is left out", stacklevel=4)
        alpha = None
    if rgb.dtype == np.uint16 and suffix in DEEP_SUFFIXES:
        return _encoded_deep(picture, suffix)
    channels = [as_uint8(rgb)] if alpha is None else [as_uint8(rgb), as_uint8(alpha)[..., None]]
    image = Image.fromarray(np.concatenate(channels, axis=2) if len(channels) > 1 else channels[0])
    if picture.grey:
        image = image.convert("L" if alpha is None else "LA")
    options: dict[str, object] = {
        key: value
        for key, value in (("icc_profile", picture.icc_profile), ("exif", picture.exif))
        if value is not None and suffix != ".bmp"
    }
    if suffix in (".jpg", ".jpeg"):
        options |= {"quality": 95, "subsampling": 0}
    elif suffix == ".webp":
        options |= {"lossless": True}
    elif suffix in (".tif", ".tiff"):
        options |= {"compression": "tiff_adobe_deflate"}
    buffer = io.BytesIO()
    image.save(buffer, Image.registered_extensions()[suffix], **options)
    return buffer.getvalue()


def _encoded_deep(picture: Picture, suffix: str) -> bytes:
    pixels: Pixels = picture.rgb[..., ::-1]
    if picture.grey and picture.alpha is None:
        pixels = cv2.cvtColor(picture.rgb, cv2.COLOR_RGB2GRAY)
    elif picture.alpha is not None:
        pixels = np.dstack([pixels, picture.alpha])
    kinds, blocks = [], []
    if picture.exif is not None:
        kinds.append(cv2.IMAGE_METADATA_EXIF)
        blocks.append(np.frombuffer(picture.exif.removeprefix(b"Exif\x00\x00"), np.uint8))
    if picture.icc_profile is not None:
        kinds.append(cv2.IMAGE_METADATA_ICCP)
        blocks.append(np.frombuffer(picture.icc_profile, np.uint8))
    if kinds and suffix != ".png":
        warnings.warn(
            "16-bit TIFF is written without its profile and EXIF: write PNG to keep them", stacklevel=5
        )
        kinds, blocks = [], []
    pixels = np.ascontiguousarray(pixels)
    ok, data = (
        cv2.imencodeWithMetadata(suffix, pixels, kinds, blocks) if kinds else cv2.imencode(suffix, pixels)
    )
    if not ok:
        raise MediaError("OpenCV could not encode it")
    return bytes(data.tobytes())


def as_uint8(pixels: Pixels) -> NDArray[np.uint8]:
    """The same levels in 8 bits, rounded."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    return np.rint(pixels / 257.0).astype(np.uint8)
