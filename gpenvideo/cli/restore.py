"""`gpenvideo restore`: pictures, folders, image sequences and videos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gpenvideo.cli.console import Device, Dtype, Json
from gpenvideo.cli.materials import MaterialDefaults, tell_material
from gpenvideo.cli.pictures import picture_pairs, restore_pictures
from gpenvideo.errors import OptionError

__all__ = ["restore"]

PICTURE_SUFFIXES = (".png", ".tif", ".tiff", ".dpx", ".exr")  # of sequences that can be written
PICTURE_CODECS = ("png", "tiff", "dpx", "exr")
FACES, PART, CODEC, TOLD = "Which faces", "Which part", "How it is written", "What is told"
LOOK = "How faces look"

Strength = Annotated[float, typer.Option(min=0, max=1, help="How much of the restored face.")]
Select = Annotated[
    str,
    typer.Option(help="all, largest, N (from the left, from 0), id:N or person:N.", rich_help_panel=FACES),
]
MinFace = Annotated[float, typer.Option(min=0, help="The least width, px.", rich_help_panel=FACES)]
MaxFaces = Annotated[int | None, typer.Option(min=1, help="The largest N a frame.", rich_help_panel=FACES)]
Reference = Annotated[
    list[Path] | None, typer.Option(help="A picture of whom to restore; repeatable.", rich_help_panel=FACES)
]
Gates = Annotated[
    bool, typer.Option("--gates/--no-gates", help="Less of profiles and tiny faces.", rich_help_panel=FACES)
]
Temporal = Annotated[
    bool, typer.Option("--temporal/--no-temporal", help="Steady faces.", rich_help_panel=FACES)
]
Guarded = Annotated[
    bool, typer.Option("--guard/--no-guard", help="Less where the person changes.", rich_help_panel=FACES)
]
Color = Annotated[
    str, typer.Option(help="keep: faces of black-and-white film stay so; or allow.", rich_help_panel=LOOK)
]
Grain = Annotated[
    str, typer.Option(help="The film's grain on faces: match, none or 0 to 1.", rich_help_panel=LOOK)
]
MatchSharpness = Annotated[
    bool,
    typer.Option(
        "--match-sharpness/--no-match-sharpness",
        help="Faces nearly as soft as their picture.",
        rich_help_panel=LOOK,
    ),
]
DetectSize = Annotated[
    int, typer.Option(min=16, help="Longest side of what the detector sees, px.", rich_help_panel=FACES)
]
DetectEvery = Annotated[
    int | None, typer.Option(min=1, help="Frames from search to search.", rich_help_panel=FACES)
]
TracksIn = Annotated[
    Path | None, typer.Option(help="Tracks found before, edited: no search.", rich_help_panel=FACES)
]
TracksOut = Annotated[
    Path | None, typer.Option(help="A .json for the tracks; a .png beside it.", rich_help_panel=FACES)
]
Start = Annotated[str | None, typer.Option(help="62.5, 1:02.5 or 1550f (frames).", rich_help_panel=PART)]
End = Annotated[str | None, typer.Option(help="As --start; not included.", rich_help_panel=PART)]
Stream = Annotated[int | None, typer.Option(min=0, help="Which video stream, from 0.", rich_help_panel=PART)]
Rate = Annotated[
    str | None, typer.Option(help="Frames a second, of sequences and raw streams.", rich_help_panel=PART)
]
Deinterlace = Annotated[
    str,
    typer.Option(
        help="auto, off, bwdif, w3fdif or yadif; bwdif:field: a picture a field.", rich_help_panel=PART
    ),
]
Ivtc = Annotated[
    bool, typer.Option("--ivtc", help="Take film out of 3:2 (inverse telecine).", rich_help_panel=PART)
]
Prefilter = Annotated[
    str | None,
    typer.Option(help="FFmpeg filters; faces are found in what they make.", rich_help_panel=PART),
]
PrefilterOutput = Annotated[
    bool, typer.Option("--prefilter-output", help="That is the picture, too.", rich_help_panel=PART)
]
Decoder = Annotated[
    str,
    typer.Option(help="software, nvdec (of a GPU, checked), auto (that if it can).", rich_help_panel=PART),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Damage in the source is an error.", rich_help_panel=PART)
]
Codec = Annotated[
    str | None,
    typer.Option(
        help="libx264 (default), libx265, libsvtav1, ffv1, prores_ks, h264_nvenc...", rich_help_panel=CODEC
    ),
]
Crf = Annotated[float | None, typer.Option(help="Quality, the encoder's scale.", rich_help_panel=CODEC)]
Preset = Annotated[str | None, typer.Option(help="The encoder's preset.", rich_help_panel=CODEC)]
PixFmt = Annotated[str | None, typer.Option(help="Default: the source's.", rich_help_panel=CODEC)]
Upscale = Annotated[
    int, typer.Option(min=1, max=4, help="The whole picture 2, 3 or 4 times as large.", rich_help_panel=CODEC)
]
Background = Annotated[
    str | None,
    typer.Option(help="A super-resolution network for --upscale; default: Lanczos.", rich_help_panel=CODEC),
]
Resumable = Annotated[
    bool,
    typer.Option("--resumable", help="Goes on where an earlier run was ended.", rich_help_panel=CODEC),
]
Compare = Annotated[
    str | None, typer.Option(help="side or wipe: source and result in one.", rich_help_panel=TOLD)
]
Preview = Annotated[
    str | None, typer.Option(help="Only a picture of this moment, before and after.", rich_help_panel=TOLD)
]
Metrics = Annotated[
    bool, typer.Option("--metrics", help="Measure how steady the faces are.", rich_help_panel=TOLD)
]
ReportFile = Annotated[Path | None, typer.Option(help="What was done, as JSON.", rich_help_panel=TOLD)]
FramesFile = Annotated[
    Path | None, typer.Option(help="A JSON line a frame: pts and masks.", rich_help_panel=TOLD)
]


def restore(
    ctx: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(
            readable=False,  # what cannot be read is told as all else is
            help="A video, a picture, a folder, or a pattern like shot_%04d.png.",
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Default: beside it, as NAME.restored.EXT.")
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(help="A checkpoint, or a name of `weights list`; several go by the size of the face."),
    ] = None,
    detector: Annotated[str | None, typer.Option(help="RetinaFace weights: a path or a name.")] = None,
    aligned: Annotated[bool, typer.Option("--aligned", help="The pictures are aligned faces.")] = False,
    material: MaterialDefaults = None,
    strength: Strength = 1.0,
    template: Annotated[str | None, typer.Option(help="gpen or ffhq, if the weights do not say.")] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    compile: Annotated[bool, typer.Option("--compile", help="Faster after a slow start.")] = False,
    select: Select = "all",
    min_face: MinFace = 0,
    max_faces: MaxFaces = None,
    reference: Reference = None,
    gates: Gates = True,
    temporal: Temporal = True,
    guard: Guarded = True,
    color: Color = "keep",
    grain: Grain = "match",
    match_sharpness: MatchSharpness = False,
    detect_size: DetectSize = 640,
    detect_every: DetectEvery = None,
    tracks_in: TracksIn = None,
    tracks_out: TracksOut = None,
    start: Start = None,
    end: End = None,
    video_stream: Stream = None,
    rate: Rate = None,
    strict: Strict = False,
    deinterlace: Deinterlace = "auto",
    ivtc: Ivtc = False,
    prefilter: Prefilter = None,
    prefilter_output: PrefilterOutput = False,
    decoder: Decoder = "software",
    codec: Codec = None,
    crf: Crf = None,
    preset: Preset = None,
    pix_fmt: PixFmt = None,
    upscale: Upscale = 1,
    background: Background = None,
    resumable: Resumable = False,
    compare: Compare = None,
    preview: Preview = None,
    metrics: Metrics = False,
    report: ReportFile = None,
    report_frames: FramesFile = None,
    as_json: Json = False,
) -> None:
    """Restore the faces of a video, a picture, a folder of pictures or an image sequence."""
    networks: dict[str, Any] = {"device": device, "dtype": dtype, "template": template, "compile": compile}
    if _is_pictures(source, rate):
        if tracks_in or tracks_out or reference or resumable:
            raise OptionError("tracks are of videos, and so are references and --resumable", path=source)
        if material:
            raise OptionError("materials are of videos: leave --material out", path=source)
        if weights and len(weights) > 1:
            raise OptionError("pictures are restored by one network: give --weights once", path=source)
        pairs = picture_pairs(source, output or _beside(source))
        restore_pictures(
            pairs,
            weights[0] if weights else None,
            detector,
            networks,
            aligned=aligned,
            strength=strength,
            upscale=upscale,
            background=background,
            as_json=as_json,
        )
        return
    if aligned:
        raise OptionError("--aligned is for pictures", path=source)
    tell_material(ctx, material)
    from gpenvideo.cli import video

    options: dict[str, Any] = {"strength": strength, "select": select, "min_face_px": min_face}
    options |= {"max_faces": max_faces, "detect_size_px": detect_size, "detect_every": detect_every}
    options |= {"gates": gates, "temporal": temporal, "guard": guard}
    options |= {"color": color, "grain": grain, "match_sharpness": match_sharpness}
    options |= {"reference": tuple(map(str, reference or ())), "further_weights": tuple(weights or ())[1:]}
    options |= {"upscale": upscale, "background": background}
    decoding: dict[str, Any] = {"start": start, "end": end, "rate": rate, "strict": strict}
    decoding |= {"video_stream": video_stream, "deinterlace": deinterlace, "ivtc": ivtc}
    decoding |= {"prefilter": prefilter, "prefilter_output": prefilter_output, "decoder": decoder}
    common: dict[str, Any] = {"weights": weights[0] if weights else None, "detector": detector}
    common |= {"networks": networks, "options": options, "tracks": tracks_in}
    if preview is not None:
        video.preview(source, _target(source, output, ".png"), preview, decoding=decoding, **common)
        return
    video.restore(
        source,
        output if codec in PICTURE_CODECS and output is not None else _target(source, output),
        decoding=decoding,
        encoding={"codec": codec, "crf": crf, "preset": preset, "pixel_format": pix_fmt},
        as_json=as_json,
        resumable=resumable,
        compare=compare,
        tracks_out=tracks_out,
        metrics=metrics,
        report=report,
        report_frames=report_frames,
        **common,
    )


def _is_pictures(source: Path, rate: str | None) -> bool:
    """Whether the source is a still picture or an album, and no video or sequence."""
    from gpenvideo.picture import SUFFIXES

    if "%" in source.name:
        return False
    return rate is None if source.is_dir() else source.suffix.lower() in SUFFIXES


def _beside(source: Path, suffix: str | None = None) -> Path:
    """Where a result goes that was given no name: beside the source, as NAME.restored.EXT."""
    return source.with_name(f"{source.stem}.restored{suffix if suffix is not None else source.suffix}")


def _target(source: Path, output: Path | None, suffix: str | None = None) -> Path:
    """Where a video goes: beside its source, into a folder under the source's name, or where it is told."""
    pictures = suffix is None and not source.is_file()  # a folder or a pattern
    if output is None and pictures:
        target = source.with_name(f"restored_{source.name}")
        return target if target.suffix.lower() in ("", *PICTURE_SUFFIXES) else target.with_suffix(".png")
    if output is None:
        return _beside(source, suffix)
    if output.is_dir() and not pictures:
        return output / (source.name if suffix is None else f"{source.stem}{suffix}")
    return output
