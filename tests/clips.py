"""Clips for tests, made with PyAV: any codec, pixel format, container, timing, tag and companion stream.

    clip = write_clip(tmp_path / "odd.mkv", codec="ffv1", pix_fmt="yuv422p10le", size=(853, 481), frames=5)

The pictures are deterministic. `noise_frame` fills every sample of any pixel format, for tests that compare
exactly; `scene_frame` is a moving smooth picture, for lossy codecs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

LOSSLESS = {"ffv1", "rawvideo", "png", "tiff", "dpx"}
DEFAULT_OPTIONS = {
    "libx264": {"preset": "ultrafast", "crf": "18", "threads": "1"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:pools=1:frame-threads=1"},
    "libsvtav1": {"preset": "12", "svtav1-params": "lp=1"},
}
PNG_1X1 = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c49444154789c63f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
)


def noise_frame(pix_fmt: str, size: tuple[int, int], seed: int = 0) -> av.VideoFrame:
    """A frame of `pix_fmt` with random samples in every component, each within its depth."""
    frame = av.VideoFrame(*size, pix_fmt)
    rng = np.random.default_rng(seed)
    for index, plane in enumerate(frame.planes):
        data = rng.integers(0, 256, plane.buffer_size, np.uint8)
        bits = min((c.bits for c in frame.format.components if c.plane == index), default=8)
        packed = frame.format.is_bit_stream or not (frame.format.is_planar or pix_fmt.startswith("gray"))
        if not packed and 8 < bits < 16:  # padding bits are zero
            order = ">u2" if frame.format.is_big_endian else "<u2"
            wide = (data.view(np.uint16) & ((1 << bits) - 1)).astype(np.uint16)
            if pix_fmt.startswith("p") or "msb" in pix_fmt:
                wide <<= 16 - bits
            data = wide.astype(order).view(np.uint8)
        plane.update(data.tobytes())
    return frame


def scene_frame(pix_fmt: str, size: tuple[int, int], index: int = 0) -> av.VideoFrame:
    """A smooth picture with a bright square that moves right, in `pix_fmt` (by swscale)."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    rgb = np.stack([x * 200 // max(1, width), y * 200 // max(1, height), (x + y + 3 * index) % 200], axis=2)
    side = max(1, min(size) // 4)
    left = (index * 2) % max(1, width - side)
    rgb[height // 3 : height // 3 + side, left : left + side] = (250, 220, 190)
    frame = av.VideoFrame.from_ndarray(rgb.astype(np.uint8), format="rgb24")
    return frame if pix_fmt == "rgb24" else frame.reformat(format=pix_fmt, threads=1)


def write_clip(
    path: Path | str,
    *,
    codec: str = "ffv1",
    pix_fmt: str = "yuv420p",
    size: tuple[int, int] = (64, 48),
    frames: int = 12,
    rate: int | Fraction = 25,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    picture: Callable[[int], av.VideoFrame] | None = None,
    options: Mapping[str, str] | None = None,
    gop: int | None = None,
    b_frames: int = 0,
    matrix: int | None = None,
    primaries: int | None = None,
    transfer: int | None = None,
    full_range: bool | None = None,
    sample_aspect: Fraction | None = None,
    rotation: int = 0,
    mirrored: bool = False,
    videos: int = 1,
    audio: int = 0,
    audio_codec: str = "aac",
    audio_s: float | None = None,
    subtitles: Sequence[str] = (),
    chapters: Sequence[tuple[float, float, str]] = (),
    attachments: Mapping[str, bytes] | None = None,
    cover: bool = False,
    metadata: Mapping[str, str] | None = None,
    container_options: Mapping[str, str] | None = None,
    format: str | None = None,
) -> Path:
    """Write a clip and return its path; the suffix (or `format`, FFmpeg's name) chooses the container.

    pts: a tick of `time_base` (default 1 / rate) for each frame: variable rates, offsets, negative starts.
    picture: frame number to av.VideoFrame; default `noise_frame` for lossless codecs, else `scene_frame`.
    b_frames: consecutive B-frames of x264 and MPEG codecs; gives the mp4 muxer an edit list.
    rotation: degrees COUNTER-clockwise in the display matrix, as `VideoFrame.rotation`; mirrored: flipped
    left to right as well.
    videos: how many video streams, each of other pictures. audio: how many sine tracks of `audio_s` seconds.
    subtitles: a text track each, of one line a second; named by its language ("eng").
    Timestamps before 0 need container_options={"avoid_negative_ts": "disabled"}.
    cover: an attached picture (mp4: a stream; Matroska: an attachment). chapters: (start s, end s, title).
    A raw stream is a suffix ".264" with codec "libx264". x265 needs more frames than it reorders (6 will do):
    with fewer its decoding times are not initialised.
    """
    path = Path(path)
    rate = Fraction(rate)
    time_base = time_base or 1 / rate
    make = picture or (lambda i: (noise_frame if codec in LOSSLESS else scene_frame)(pix_fmt, size, i))
    ticks = list(pts) if pts is not None else [round(i / rate / time_base) for i in range(frames)]
    options = {**DEFAULT_OPTIONS.get(codec, {}), **(options or {})}
    tags = (matrix, primaries, transfer, full_range)
    if b_frames:
        options |= {"bf": str(b_frames)} | ({"preset": "veryfast"} if codec == "libx264" else {})
    with av.open(str(path), "w", format=format, container_options=dict(container_options or {})) as out:
        out.metadata.update(metadata or {})
        streams = []
        for _ in range(videos):
            stream = out.add_stream(codec, rate=rate, options=dict(options))
            stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
            context = stream.codec_context
            context.time_base = stream.time_base = time_base
            if gop is not None:
                context.gop_size = gop
            _tag(context, *tags)
            if sample_aspect is not None:
                context.sample_aspect_ratio = sample_aspect
            if rotation or mirrored:
                stream.set_display_rotation(rotation, hflip=mirrored)
            streams.append(stream)
        tracks = [out.add_stream(audio_codec, rate=48000, layout="mono") for _ in range(audio)]
        texts = [_text_stream(out, path, language) for language in subtitles]
        covers = [_cover_stream(out, path)] if cover and path.suffix != ".mkv" else []
        for name, data in (attachments or {}).items():
            out.add_attachment(name, "application/octet-stream", data)
        if cover and path.suffix == ".mkv":
            out.add_attachment("cover.png", "image/png", PNG_1X1)
        if chapters:
            out.set_chapters([_chapter(i, *chapter) for i, chapter in enumerate(chapters)])
        out.start_encoding()
        length_s = audio_s if audio_s is not None else float((ticks[-1] - ticks[0] + 1) * time_base)
        sound = [_sine_packets(track, length_s, 220 * (i + 1)) for i, track in enumerate(tracks)]
        words = [_text_packets(text, path, length_s) for text in texts]
        for stream in covers:
            packet = av.Packet(PNG_1X1)
            packet.stream, packet.pts, packet.dts, packet.is_keyframe = stream, 0, 0, True
            packet.time_base = Fraction(1, 90000)
            out.mux(packet)
        _mux_by_time(
            out,
            [
                _video_packets(stream, make, ticks, time_base, 1000 * number, tags)
                for number, stream in enumerate(streams)
            ]
            + sound
            + words,
        )
    return path


def _chapter(number: int, start_s: float, end_s: float, title: str) -> Any:
    start, end = round(start_s * 1000), round(end_s * 1000)
    times = {"start": start, "end": end, "time_base": Fraction(1, 1000)}
    return {"id": number, **times, "metadata": {"title": title}}


def _tag(
    thing: Any, matrix: int | None, primaries: int | None, transfer: int | None, full_range: bool | None
) -> None:
    """H.273 codes onto a codec context or a frame, which name two of the fields differently."""
    if matrix is not None:
        thing.colorspace = matrix
    if primaries is not None:
        thing.color_primaries = primaries
    if transfer is not None:
        thing.color_trc = transfer
    if full_range is not None:
        thing.color_range = 2 if full_range else 1


def _video_packets(
    stream: Any,
    make: Callable[[int], av.VideoFrame],
    ticks: Sequence[int],
    time_base: Fraction,
    offset: int,
    tags: tuple[Any, ...],
) -> Iterable[av.Packet]:
    for number, tick in enumerate(ticks):
        frame = make(number + offset)
        frame.pts, frame.time_base = tick, time_base
        _tag(frame, *tags)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _sine_packets(stream: Any, length_s: float, frequency_hz: float) -> Iterable[av.Packet]:
    layout, kind = stream.codec_context.layout.name, stream.codec_context.format.name
    step = stream.codec_context.frame_size or 1024
    for start in range(0, max(1, round(length_s * 48000)), step):
        wave = np.sin(2 * np.pi * frequency_hz * np.arange(start, start + step) / 48000)[None] * 0.3
        samples = wave.astype(np.float32) if "flt" in kind else (wave * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples, format=kind, layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _text_stream(out: Any, path: Path, language: str) -> Any:
    stream = out.add_mux_stream("mov_text" if path.suffix in {".mp4", ".mov"} else "subrip")
    stream.metadata["language"] = language
    stream.time_base = Fraction(1, 1000)
    return stream


def _text_packets(stream: Any, path: Path, length_s: float) -> Iterable[av.Packet]:
    for second in range(max(1, int(length_s))):
        text = f"line {second} of {stream.index}".encode()
        packet = av.Packet(len(text).to_bytes(2, "big") + text if path.suffix in {".mp4", ".mov"} else text)
        packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 1000), True
        packet.pts = packet.dts = second * 1000
        packet.duration = 500
        yield packet


def _cover_stream(out: Any, path: Path) -> Any:
    stream = out.add_mux_stream("png", width=1, height=1)
    stream.disposition = 1 << 10  # an attached picture
    stream.time_base = Fraction(1, 90000)
    return stream


def _mux_by_time(out: Any, sources: list[Iterable[av.Packet]]) -> None:
    iterators = [iter(source) for source in sources]
    heads: dict[int, av.Packet] = {}
    for number, iterator in enumerate(iterators):
        heads.update((number, packet) for packet in itertools.islice(iterator, 1))
    while heads:
        number = min(heads, key=lambda n: _seconds(heads[n]))
        out.mux(heads.pop(number))
        heads.update((number, packet) for packet in itertools.islice(iterators[number], 1))


def _seconds(packet: av.Packet) -> Fraction:
    ticks = packet.dts if packet.dts is not None else packet.pts
    return Fraction(ticks or 0) * (packet.time_base or 1)


def write_sequence(
    folder: Path,
    *,
    suffix: str = ".png",
    pix_fmt: str = "rgb24",
    size: tuple[int, int] = (32, 24),
    numbers: Sequence[int] = range(1, 6),
    name: str = "shot_%04d",
) -> Path:
    """A folder of pictures, `noise_frame(pix_fmt, size, number)` for each number; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    codec = {".png": "png", ".tif": "tiff", ".tiff": "tiff", ".dpx": "dpx", ".exr": "exr", ".jpg": "mjpeg"}[
        suffix
    ]
    for number in numbers:
        context = av.CodecContext.create(codec, "w")
        context.width, context.height, context.pix_fmt = *size, pix_fmt
        context.time_base = Fraction(1, 25)
        frame = noise_frame(pix_fmt, size, number)
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        data = b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])
        (folder / ((name % number) + suffix)).write_bytes(data)
    return folder


def truncated(path: Path, copy: Path, keep: float = 0.6) -> Path:
    """A copy that ends early: the first `keep` of the bytes."""
    data = path.read_bytes()
    copy.write_bytes(data[: int(len(data) * keep)])
    return copy


def with_noise(path: Path, copy: Path, where: Iterable[tuple[float, int]], seed: int = 0) -> Path:
    """A copy with damage: for each (share of the file, bytes) that many bytes there are random."""
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    for share, count in where:
        start = int(len(data) * share)
        data[start : start + count] = rng.bytes(count)[: max(0, len(data) - start)]
    copy.write_bytes(bytes(data))
    return copy
