"""Picture files: depth, profile, EXIF, orientation and alpha survive reading and writing."""

from __future__ import annotations

import io
import os
import warnings
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from gpenvideo.errors import FileError, FileMissing, GpenvideoError, MediaError, OptionError
from gpenvideo.picture import Picture, read_picture, write_picture

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
ARTIST = 0x013B
rng = np.random.default_rng(0)
RGB8 = rng.integers(0, 256, (20, 31, 3), dtype=np.uint8)
RGB16 = rng.integers(0, 65536, (20, 31, 3), dtype=np.uint16)


def exif(orientation: int = 1) -> bytes:
    block = Image.Exif()
    block[ARTIST] = "a keeper of film"
    block[0x0112] = orientation
    return block.tobytes()


def tags(file: Path) -> dict[int, object]:
    with Image.open(file) as image:
        return dict(image.getexif())


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".tiff", ".bmp"])
@pytest.mark.parametrize("grey", [False, True])
def test_lossless_formats_give_back_the_same(tmp_path: Path, suffix: str, grey: bool) -> None:
    rgb = np.dstack([RGB8[..., 0]] * 3) if grey else RGB8
    picture = Picture(rgb, None, grey, PROFILE, exif())
    file = tmp_path / f"a{suffix}"
    write_picture(picture, file)
    back = read_picture(file)
    assert np.array_equal(back.rgb, rgb)
    if suffix != ".bmp":
        assert back.icc_profile == PROFILE
        assert tags(file)[ARTIST] == "a keeper of film"
    if suffix in (".png", ".tif", ".tiff"):
        assert back.grey == grey
    assert os.listdir(tmp_path) == [file.name]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("kind", ["colour", "grey", "alpha"])
def test_sixteen_bits_stay_sixteen(tmp_path: Path, suffix: str, kind: str) -> None:
    rgb = np.dstack([RGB16[..., 0]] * 3) if kind == "grey" else RGB16
    alpha = RGB16[..., 1].copy() if kind == "alpha" else None
    tagged = suffix == ".png"
    picture = Picture(rgb, alpha, kind == "grey", PROFILE if tagged else None, exif() if tagged else None)
    write_picture(picture, tmp_path / f"a{suffix}")
    back = read_picture(tmp_path / f"a{suffix}")
    assert back.rgb.dtype == np.uint16
    assert np.array_equal(back.rgb, rgb)
    assert back.grey == (kind == "grey")
    assert alpha is None or np.array_equal(back.alpha, alpha)
    if tagged:
        assert back.icc_profile == PROFILE
        assert tags(tmp_path / "a.png")[ARTIST] == "a keeper of film"


def test_a_deep_tiff_says_what_it_cannot_keep(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="without its profile"):
        write_picture(Picture(RGB16, icc_profile=PROFILE), tmp_path / "a.tif")
    with pytest.warns(UserWarning, match="no transparency"):
        write_picture(Picture(RGB8, alpha=RGB8[..., 0]), tmp_path / "a.jpg")


def test_sixteen_bits_are_rounded_where_only_eight_fit(tmp_path: Path) -> None:
    write_picture(Picture(RGB16), tmp_path / "a.webp")
    assert np.array_equal(read_picture(tmp_path / "a.webp").rgb, np.rint(RGB16 / 257).astype(np.uint8))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("deep", [False, True])
def test_pictures_are_read_upright(tmp_path: Path, orientation: int, deep: bool) -> None:
    file = tmp_path / "a.png"
    if deep:
        block = np.frombuffer(exif(orientation).removeprefix(b"Exif\0\0"), np.uint8)
        ok, data = cv2.imencodeWithMetadata(".png", RGB16[..., ::-1], [cv2.IMAGE_METADATA_EXIF], [block])
        assert ok
        file.write_bytes(data.tobytes())
    else:
        Image.fromarray(RGB8).save(file, exif=exif(orientation))
    with Image.open(file) as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored).convert("RGB"))
    picture = read_picture(file)
    assert picture.rgb.shape == expected.shape
    if deep:
        assert np.abs(picture.rgb / 257.0 - expected).max() <= 1
    else:
        assert np.array_equal(picture.rgb, expected)
    write_picture(picture, tmp_path / "b.png")
    assert tags(tmp_path / "b.png").get(0x0112, 1) == 1  # turned once, not twice
    assert np.array_equal(read_picture(tmp_path / "b.png").rgb, picture.rgb)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_every_mode_people_have(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(RGB16[..., 0]) if mode == "I;16" else Image.fromarray(RGB8).convert(mode)
    suffix = ".jpg" if mode in ("CMYK", "YCbCr") else ".png"
    buffer = io.BytesIO()
    image.save(buffer, "JPEG" if suffix == ".jpg" else "PNG")
    (tmp_path / f"a{suffix}").write_bytes(buffer.getvalue())
    picture = read_picture(tmp_path / f"a{suffix}")
    assert picture.rgb.shape == (20, 31, 3)
    assert picture.grey == (mode in ("1", "L", "LA", "I;16"))
    assert (picture.alpha is not None) == (mode in ("LA", "RGBA"))
    write_picture(picture, tmp_path / "b.png")
    back = read_picture(tmp_path / "b.png")
    assert np.array_equal(back.rgb, picture.rgb)
    assert back.grey == picture.grey


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    def refused(name: str, content: bytes | None, kind: type[GpenvideoError], match: str) -> None:
        file = tmp_path / name
        if content is not None:
            file.write_bytes(content)
        with warnings.catch_warnings(), pytest.raises(kind, match=match) as caught:
            read_picture(file)
        assert str(caught.value).startswith(str(file))
        assert "\n" not in str(caught.value)

    buffer = io.BytesIO()
    Image.fromarray(RGB8).save(buffer, "PNG")
    refused("cut.png", buffer.getvalue()[:-600], MediaError, "damaged")
    refused("text.png", b"no picture", MediaError, "no picture")
    refused("empty.png", b"", MediaError, "empty")
    refused("missing.png", None, FileMissing, "no such file")
    (tmp_path / "folder.png").mkdir()
    refused("folder.png", None, FileError, "folder")
    buffer = io.BytesIO()
    Image.fromarray(RGB8).save(buffer, "GIF", save_all=True, append_images=[Image.fromarray(RGB8[::-1])])
    refused("moving.gif", buffer.getvalue(), MediaError, "video")
    buffer = io.BytesIO()
    Image.fromarray(RGB8[..., 0].astype(np.float32)).save(buffer, "TIFF")
    refused("float.tif", buffer.getvalue(), MediaError, "32 bits")


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"\.png"):
        write_picture(Picture(RGB8), tmp_path / "a.xyz")
    with pytest.raises(FileError):
        write_picture(Picture(RGB8), tmp_path / "no folder" / "a.png")
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(FileError):
        write_picture(Picture(RGB8), tmp_path / "taken.png")
    assert os.listdir(tmp_path) == ["taken.png"]
    assert replace(Picture(RGB8), grey=True).grey
