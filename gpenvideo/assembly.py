"""Assembly: what restores the frames of a reader, put together from options, networks and tracks."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from os import PathLike

from gpenvideo.analysis import Analysis
from gpenvideo.errors import OptionError
from gpenvideo.faces.detector import Detector
from gpenvideo.networks import (
    NetworkOptions,
    load_embedder,
    load_finder,
    load_networks,
    load_restorer,
    load_upscaler,
)
from gpenvideo.persons import Analysing, Identity
from gpenvideo.pipeline import RestoreOptions, VideoRestorer
from gpenvideo.restorer import Restorer
from gpenvideo.tracks.document import Tracks
from gpenvideo.tracks.file import read_tracks
from gpenvideo.tracks.given import Given
from gpenvideo.tracks.record import Record
from gpenvideo.video.reader import VideoReader
from gpenvideo.video.timing import as_ticks

__all__ = ["analysis_of", "identity_of", "known_tracks", "shift_s", "video_restorer"]


def known_tracks(
    tracks: str | PathLike[str] | Tracks | None, tracks_out: object, detector: object
) -> Tracks | None:
    """The tracks that are given, read; None where faces are to be searched for. OptionError: both at once."""
    if tracks is None:
        return None
    if tracks_out is not None or detector is not None:
        raise OptionError("where tracks are given none are searched for: leave tracks-out and detector out")
    return tracks if isinstance(tracks, Tracks) else read_tracks(tracks)


def video_restorer(
    reader: VideoReader,
    weights: str | PathLike[str] | Restorer | None,
    detector: str | PathLike[str] | Detector | None,
    networks: NetworkOptions | None,
    options: RestoreOptions,
    given: Given | None,
    identity: Identity,
    record: Record | None = None,
) -> VideoRestorer:
    """What restores the frames of a reader: with a detector, or with the tracks that are given."""
    others: dict[int, Restorer] = {}
    if given is None:
        restorer, finder = load_networks(weights, detector, networks)
        found = analysis_of(reader, finder, options, identity, record)
        if options.reference:
            found = identity.wanted_only(found, options.reference, finder)
        elif options.select.startswith("person:"):
            identity.warn_of_looks()
    else:
        restorer, found, others = load_restorer(weights, networks), given, _of_tracks(given, networks)
        if options.reference:
            found = identity.told_apart(given)
            found = identity.wanted_only(found, options.reference, load_finder(None, networks))
    return VideoRestorer(
        restorer,
        found,
        reader.info,
        options,
        identity.stages,
        others=others,
        further=[load_restorer(name, _alone(networks)) for name in options.further_weights],
        guard=identity.guard,
        upscaler=load_upscaler(options.upscale, options.background, networks),
        shift_s=shift_s(reader),
    )


def _of_tracks(given: Given, networks: NetworkOptions | None) -> dict[int, Restorer]:
    """The restorers of the tracks that have one of their own."""
    wanted = {track.id: track.weights for track in given.tracks.tracks if track.weights and not track.skip}
    loaded = {name: load_restorer(name, _alone(networks)) for name in sorted(set(wanted.values()))}
    return {id: loaded[name] for id, name in wanted.items()}


def _alone(networks: NetworkOptions | None) -> NetworkOptions:
    """Without the template, which is for the run's own weights."""
    return replace(networks or NetworkOptions(), template=None)


def shift_s(reader: VideoReader) -> Fraction:
    """What is taken off the times of the stream that is restored: whole ticks."""
    return as_ticks(reader.shift_s, reader.info.time_base) * reader.info.time_base


def identity_of(reader: VideoReader, networks: NetworkOptions | None, options: RestoreOptions) -> Identity:
    """What tells the people of a video apart."""
    embedder = load_embedder((networks or NetworkOptions()).device)
    return Identity(embedder, reader.info, shift_s=float(shift_s(reader)), guarded=options.guard)


def analysis_of(
    reader: VideoReader, finder: Detector, options: RestoreOptions, identity: Identity, record: Record | None
) -> Analysing:
    """What finds the faces of a video, tells them apart, and takes them down in `record`."""
    analysis = Analysis(
        finder,
        reader.info,
        detect_size_px=options.detect_size_px,
        detect_every=options.detect_every,
        stages=identity.stages,
    )
    told = identity.told_apart(analysis)
    return record.of(told) if record else told
