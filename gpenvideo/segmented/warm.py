"""What a worker keeps from one part to the next: networks that are loaded, tracks that are read."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from typing import Any

from gpenvideo.faces.detector import Detector
from gpenvideo.faces.identity import Embedder
from gpenvideo.networks import NetworkOptions, load_embedder, load_finder, load_restorer, load_upscaler
from gpenvideo.restorer import Restorer
from gpenvideo.segmented.work import hash_of
from gpenvideo.tracks.document import Tracks
from gpenvideo.tracks.file import read_tracks
from gpenvideo.upscaling import Upscaler

__all__ = ["Warm"]


class Warm:
    """Networks that a worker has loaded, for whatever it is given next, and the tracks it read last.

    Args:
        restorer, finder, embedder: take the place of the default ones.
    """

    def __init__(
        self,
        restorer: Restorer | None = None,
        finder: Detector | None = None,
        embedder: Embedder | None = None,
    ) -> None:
        self._default, self._finder, self._embedder = restorer, finder, embedder
        self._loaded: dict[Any, Any] = {}
        self._tracks: tuple[str, Tracks] | None = None

    def restorer(self, name: str | None, how: NetworkOptions) -> Restorer:
        """See `gpenvideo.networks.load_restorer`."""
        if name is None and self._default:
            return self._default
        return self._kept(("restorer", name, how), lambda: load_restorer(name, how))  # type: ignore[no-any-return]

    def finder(self, name: str | None, how: NetworkOptions) -> Detector:
        """See `gpenvideo.networks.load_finder`."""
        if name is None and self._finder:
            return self._finder
        return self._kept(("finder", name, how), lambda: load_finder(name, how))  # type: ignore[no-any-return]

    def upscaler(self, scale: int, background: str | None, how: NetworkOptions) -> Upscaler | None:
        """See `gpenvideo.networks.load_upscaler`."""
        key = ("upscaler", scale, background, how)
        return self._kept(key, lambda: load_upscaler(scale, background, how))  # type: ignore[no-any-return]

    def embedder(self, device: str) -> Embedder:
        """See `gpenvideo.networks.load_embedder`."""
        if self._embedder:
            return self._embedder
        return self._kept(("embedder", device), lambda: load_embedder(device))  # type: ignore[no-any-return]

    def tracks(self, path: str | PathLike[str]) -> tuple[str, Tracks]:
        """The hash of a file of tracks, and what is in it; see `gpenvideo.read_tracks`."""
        key = hash_of(path)
        if self._tracks is None or self._tracks[0] != key:
            self._tracks = key, read_tracks(path)
        return self._tracks

    def _kept(self, key: Any, load: Callable[[], Any]) -> Any:
        if key not in self._loaded:
            self._loaded[key] = load()
        return self._loaded[key]
