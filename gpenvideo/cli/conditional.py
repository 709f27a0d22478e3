"""`gpenvideo colorize`, `inpaint`, `segmentation-to-face`: pictures of aligned faces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpenvideo.cli.console import Device, Dtype, Json, described, err
from gpenvideo.cli.pictures import each_picture, picture_pairs
from gpenvideo.errors import OptionError

if TYPE_CHECKING:
    from gpenvideo.restorer import GPENRestorer

__all__ = ["colorize", "inpaint", "segmentation_to_face"]

Source = Annotated[
    Path, typer.Argument(metavar="IN", readable=False, help="A picture that is an aligned face, or a folder.")
]
Output = Annotated[Path, typer.Option("-o", "--output", help="A picture, or a folder.")]
Weights = Annotated[str, typer.Option(help="A checkpoint that was trained for it, or its name.")]


def colorize(
    source: Source,
    output: Output,
    weights: Weights,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Json = False,
) -> None:
    """Give grey faces their colours: --weights GPEN-Colorization-1024.pth."""
    from gpenvideo.conditional import colorize_picture

    _each(source, output, weights, device, dtype, colorize_picture, as_json)


def inpaint(
    source: Annotated[
        Path, typer.Argument(metavar="IN", readable=False, help="A picture that is an aligned face.")
    ],
    output: Output,
    weights: Weights,
    mask: Annotated[Path, typer.Option(help="A picture as large: white is filled, black is kept.")],
    whole: Annotated[bool, typer.Option("--whole", help="All that the network makes, at its size.")] = False,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Json = False,
) -> None:
    """Fill holes in a face: --weights GPEN-Inpainting-1024.pth."""
    from gpenvideo.conditional import inpaint_picture

    if source.is_dir():
        raise OptionError("a mask is of one picture: name a picture, no folder", path=source)

    def make(picture: Path, target: Path, restorer: GPENRestorer) -> None:
        inpaint_picture(picture, mask, target, restorer, whole=whole)

    _each(source, output, weights, device, dtype, make, as_json)


def segmentation_to_face(
    source: Source,
    output: Output,
    weights: Weights,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Json = False,
) -> None:
    """Make faces of coloured maps of their parts: --weights GPEN-Seg2face-512.pth."""
    from gpenvideo.conditional import face_picture_from_segmentation

    _each(source, output, weights, device, dtype, face_picture_from_segmentation, as_json)


def _each(
    source: Path,
    output: Path,
    weights: str,
    device: str,
    dtype: str,
    make: Callable[[Path, Path, GPENRestorer], None],
    as_json: bool,
) -> None:
    from gpenvideo.restorer import load

    pairs = picture_pairs(source, output)
    restorer = load(weights, device, dtype)
    if not as_json:
        err.print(described(restorer), markup=False, highlight=False)

    def made(picture: Path, target: Path) -> dict[str, Any]:
        make(picture, target, restorer)
        return {}

    each_picture(pairs, made, as_json=as_json)
