"""One file restored so that whatever ends the run, the next one goes on where it was."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path

from gpenvideo.errors import OptionError
from gpenvideo.networks import NetworkOptions
from gpenvideo.pipeline import RestoreOptions
from gpenvideo.place import check_place, write_json
from gpenvideo.report import Report
from gpenvideo.segmented.joining import joined
from gpenvideo.segmented.journal import Journal
from gpenvideo.segmented.parts import PartDone, parts
from gpenvideo.segmented.restoring import analyse, restore_part
from gpenvideo.segmented.warm import Warm
from gpenvideo.segmented.work import Work, hash_of
from gpenvideo.tracks.document import Tracks
from gpenvideo.tracks.file import read_tracks
from gpenvideo.transcode import Progress
from gpenvideo.video.options import Decoding, Encoding
from gpenvideo.video.pictures import is_pictures
from gpenvideo.video.sequence import find_pictures, is_sequence
from gpenvideo.video.writer import refuse_source

__all__ = ["restore_resumable"]

SEGMENT_S = 60.0


def restore_resumable(
    source: str | PathLike[str],
    target: str | PathLike[str],
    *,
    weights: str | PathLike[str] | None = None,
    detector: str | PathLike[str] | None = None,
    networks: NetworkOptions | None = None,
    options: RestoreOptions | None = None,
    decoding: Decoding | None = None,
    encoding: Encoding | None = None,
    tracks: str | PathLike[str] | None = None,
    report: str | PathLike[str] | None = None,
    segment_s: float = SEGMENT_S,
    journal_dir: str | PathLike[str] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Restore a video as `gpenvideo.restore_video` does, in segments, so that it can be taken up again.

    Called again after a crash or a power cut with the same source, options and weights, it restores at most
    the one segment anew that was not finished; with others it begins anew. Space for the result is needed
    twice.

    Args:
        source, target: of a video file; a target of pictures cannot be joined.
        weights, detector, tracks: paths or names.
        networks, options, decoding, encoding, report: as of `gpenvideo.restore_video`.
        segment_s: the least length of a segment, seconds of the stream.
        journal_dir: the folder for the journal and the segments; None is a hidden one beside the target. It
            is removed when the result is whole, and stays when the run fails.
        progress: is called at the start and after every frame, first of the analysis, then of the restoring.

    Raises:
        OptionError, FileError, MediaError, CheckpointError, DeviceError: what is done stays done.
    """
    begun, target = time.perf_counter(), Path(target)
    encoding = encoding or Encoding()
    if is_pictures(target, encoding.codec):
        raise OptionError("pictures are not resumable: name a video file, such as out.mkv", path=target)
    work = Work(
        fspath(source),
        _name(weights),
        _name(detector),
        networks or NetworkOptions(),
        options or RestoreOptions(),
        decoding or Decoding(),
        encoding,
        target.suffix,
        _name(tracks),
    )
    refuse_source(target, Path(source))
    if report:
        check_place(report, source, target)
    folder = target.with_name(f".{target.name}.segments") if journal_dir is None else Path(journal_dir)
    run = {"source": _source_hash(Path(source)), "work": work.fingerprint(), "segment_s": segment_s}
    with Journal(folder, run, fspath(target)) as journal:
        done = _restored(work, journal, segment_s, progress)
        told = joined(work, done, target)
        told.seconds = time.perf_counter() - begun
        told.fps = told.written / told.seconds
        if report:
            write_json(told.as_json(), report)
        journal.remove()
    return told


def _restored(
    work: Work, journal: Journal, segment_s: float, progress: Callable[[Progress], None] | None
) -> list[PartDone]:
    """All parts of a file, those that the journal knows as they are."""
    warm = Warm()
    if not journal.tracks_known():
        tracks = analyse(work, journal.tracks_path, warm, progress)
        journal.write({"tracks": hash_of(journal.tracks_path)})
    else:
        tracks = read_tracks(journal.tracks_path)
    known = journal.parts_done()
    done: list[PartDone] = []
    for part in parts(tracks, segment_s):
        made = known.get(part.index)
        if made is None:
            tell = _after(done, tracks, progress)
            path = journal.segment_path(part.index)
            journal.write({"begun": part.index})
            made = restore_part(work, part, journal.tracks_path, path, warm, tell)
            journal.part_done(made)
        done.append(made)
    return done


def _after(
    done: list[PartDone], tracks: Tracks, progress: Callable[[Progress], None] | None
) -> Callable[[Progress], None] | None:
    """Tells of the whole what a part tells of itself."""
    if progress is None:
        return None
    frames, faces = (sum(counts) for counts in ([d.frames for d in done], [d.faces for d in done]))

    def tell(part: Progress) -> None:
        progress(replace(part, frames=part.frames + frames, faces=part.faces + faces, total=tracks.frames))

    return tell


def _name(path: str | PathLike[str] | None) -> str | None:
    return None if path is None else fspath(path)


def _source_hash(path: Path) -> str:
    """SHA-256 of a file, or of the hashes of a sequence's pictures."""
    if not is_sequence(path):
        return hash_of(path)
    hashes = [hash_of(picture.path) for picture in find_pictures(path)]
    return hashlib.sha256("".join(hashes).encode()).hexdigest()
