"""`gpenvideo live`: a camera, a stream or a file, restored while one watches."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from gpenvideo.cli.console import Device, Dtype, Json
from gpenvideo.errors import OptionError

__all__ = ["latency_of", "live"]

SOURCE, SHOWN, PAGE, HOW = "What is restored", "Where it is shown", "The page", "How"

Camera = Annotated[
    str | None, typer.Option(help="A number or a name, see --list; default 0.", rich_help_panel=SOURCE)
]
Url = Annotated[
    str | None, typer.Option(help="rtsp://, rtmp://, http://, udp://, tcp://...", rich_help_panel=SOURCE)
]
File = Annotated[Path | None, typer.Option(help="A video file, at its own pace.", rich_help_panel=SOURCE)]
Loop = Annotated[bool, typer.Option("--loop", help="The file again and again.", rich_help_panel=SOURCE)]
List = Annotated[
    bool, typer.Option("--list", help="Only list the cameras and what they offer.", rich_help_panel=SOURCE)
]
Size = Annotated[str | None, typer.Option(help="640x480, asked of the camera.", rich_help_panel=SOURCE)]
Rate = Annotated[
    float | None, typer.Option(help="Frames a second, asked of the camera.", rich_help_panel=SOURCE)
]
Format = Annotated[
    str | None, typer.Option(help="FFmpeg's input format, if it cannot tell.", rich_help_panel=SOURCE)
]
InputOption = Annotated[
    list[str] | None, typer.Option(help="NAME=VALUE for FFmpeg's input; repeatable.", rich_help_panel=SOURCE)
]
Timeout = Annotated[
    float, typer.Option(min=0.1, help="Seconds of silence, then it connects again.", rich_help_panel=SOURCE)
]
Windowed = Annotated[
    bool | None,
    typer.Option("--window/--no-window", help="Default where nothing else is.", rich_help_panel=SHOWN),
]
Out = Annotated[list[Path] | None, typer.Option(help="A file: .mkv, .mp4, .ts.", rich_help_panel=SHOWN)]
Stream = Annotated[
    list[str] | None, typer.Option(help="A server: rtmp://, udp://, srt://, rtsp://.", rich_help_panel=SHOWN)
]
Virtual = Annotated[
    bool, typer.Option("--virtual-camera", help="A camera for other programs.", rich_help_panel=SHOWN)
]
Frames = Annotated[int | None, typer.Option(min=1, help="End after so many.", rich_help_panel=SHOWN)]
Web = Annotated[
    bool, typer.Option("--web", help="A page; alone, for visitors' cameras.", rich_help_panel=PAGE)
]
Host = Annotated[str, typer.Option(help="Others take --token or --insecure.", rich_help_panel=PAGE)]
Port = Annotated[int, typer.Option(help="0 is any that is free.", rich_help_panel=PAGE)]
Token = Annotated[str | None, typer.Option(help="Default: a random one.", rich_help_panel=PAGE)]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="Let in everybody who can reach it.", rich_help_panel=PAGE)
]
Certificate = Annotated[
    Path | None, typer.Option(help="PEM; default: made on the spot.", rich_help_panel=PAGE)
]
Key = Annotated[Path | None, typer.Option(help="PEM, its key.", rich_help_panel=PAGE)]
Origin = Annotated[
    list[str] | None, typer.Option(help="Of a proxy's pages, https://...; repeatable.", rich_help_panel=PAGE)
]
Ice = Annotated[
    list[str] | None, typer.Option(help="stun: or turn: server; default none.", rich_help_panel=PAGE)
]
Weights = Annotated[
    list[str] | None,
    typer.Option(help="A checkpoint or a name; several to choose from.", rich_help_panel=HOW),
]
Finder = Annotated[str | None, typer.Option(help="RetinaFace weights.", rich_help_panel=HOW)]
Strength = Annotated[
    float, typer.Option(min=0, max=1, help="How much of the restored face.", rich_help_panel=HOW)
]
Temporal = Annotated[
    bool, typer.Option("--temporal/--no-temporal", help="Steady faces.", rich_help_panel=HOW)
]
Mirror = Annotated[bool, typer.Option("--mirror", help="Left and right exchanged.", rich_help_panel=HOW)]
Longest = Annotated[
    int | None, typer.Option(help="Larger pictures are shrunk to this side, px.", rich_help_panel=HOW)
]
MaxLatency = Annotated[str | None, typer.Option(help="150ms: detail gives way to it.", rich_help_panel=HOW)]


def live(
    camera: Camera = None,
    url: Url = None,
    file: File = None,
    loop: Loop = False,
    list_cameras: List = False,
    size: Size = None,
    rate: Rate = None,
    format: Format = None,
    input_option: InputOption = None,
    timeout: Timeout = 5.0,
    window: Windowed = None,
    out: Out = None,
    stream: Stream = None,
    virtual_camera: Virtual = False,
    frames: Frames = None,
    web: Web = False,
    host: Host = "127.0.0.1",
    port: Port = 8780,
    token: Token = None,
    insecure: Insecure = False,
    tls_cert: Certificate = None,
    tls_key: Key = None,
    origin: Origin = None,
    ice_server: Ice = None,
    weights: Weights = None,
    detector: Finder = None,
    strength: Strength = 1.0,
    temporal: Temporal = True,
    mirror: Mirror = False,
    longest: Longest = None,
    max_latency: MaxLatency = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    compile: Annotated[bool, typer.Option("--compile", help="Faster after a slow start.")] = False,
    as_json: Json = False,
) -> None:
    """Restore the faces of a camera, a stream or a file while you watch."""
    from gpenvideo.cli import watching

    if list_cameras:
        watching.list_cameras(as_json)
        return
    named = [str(source) for source in (camera, url, file) if source is not None]
    if len(named) > 1:
        raise OptionError("one source at a time: give --camera, --url or --file")
    if file is not None and not file.is_file():
        raise OptionError("it is no file", path=file)
    _check_files(file, out or [])
    if not named and not web:
        named = ["0"]
    source: dict[str, Any] = {
        "format": format,
        "size": _size(size) if size else None,
        "rate_hz": rate,
        "options": dict(_pair(text) for text in input_option or ()),
        "loop": loop,
        "timeout_s": timeout,
    }
    settings: dict[str, Any] = {
        "strength": strength,
        "temporal": temporal,
        "mirror": mirror,
        "longest_px": longest,
        "max_latency_s": latency_of(max_latency) if max_latency else None,
    }
    page: dict[str, Any] = {
        "host": host,
        "port": port,
        "token": token,
        "insecure": insecure,
        "certificate": tls_cert,
        "key": tls_key,
        "origins": tuple(origin or ()),
        "ice_servers": tuple(ice_server or ()),
    }
    alone = not (web or out or stream or virtual_camera or as_json)
    watching.watch(
        (named[0], source) if named else None,
        {"weights": weights or (), "detector": detector},
        {"device": device, "dtype": dtype, "compile": compile},
        settings,
        page if web else None,
        targets=[*map(str, out or ()), *(stream or ())],
        virtual_camera=virtual_camera,
        window=alone if window is None else window,
        frames=frames,
        as_json=as_json,
    )


def latency_of(text: str) -> float:
    """Seconds of a latency as people write it: 150ms, 0.15s.

    Raises:
        OptionError: anything else.
    """
    match = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?) *(ms|s)", text.strip(), re.ASCII)
    if match is None or float(match[1]) == 0:
        raise OptionError(f"a latency is written 150ms or 0.15s, not {text!r}")
    return float(match[1]) / (1000 if match[2] == "ms" else 1)


def _check_files(source: Path | None, targets: list[Path]) -> None:
    """OptionError: a file would be written while it is read, or twice at once."""
    taken = [source.resolve()] if source is not None else []
    for target in targets:
        if target.resolve() in taken:
            raise OptionError("it is read, or written already: choose another name", path=target)
        taken.append(target.resolve())


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text, re.ASCII)
    if match is None or not int(match[1]) * int(match[2]):
        raise OptionError(f"a size is written 640x480, not {text!r}")
    return int(match[1]), int(match[2])


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not (name and sign):
        raise OptionError(f"an option of the input is written NAME=VALUE, not {text!r}")
    return name, value
