"""The host's way of restoring the faces of some frames: crops out of planes, through networks, and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from gpenvideo.crops import Crop, Finish, Shown, Strength, paste_of, through_each
from gpenvideo.frame import Frame, Rectangle
from gpenvideo.kernels.crop import crop
from gpenvideo.kernels.light import Seen, as_seen, returned
from gpenvideo.kernels.paste import Paste, paste
from gpenvideo.restorer import Restorer
from gpenvideo.stages import Stages
from gpenvideo.steady import Change, Settled, Steady, settled

__all__ = ["HostFaces"]


class HostFaces:
    """Restores the faces of frames whose planes lie in the host's memory, on any device.

    The networks have a thread of their own until `end`: while they are at one batch, the next is prepared.

    Args:
        stages: where the seconds are counted.
        steady: averages the crops of a stream; None leaves them as they are.
        overlap: whether networks have that thread; else they run in the caller's, when a batch is begun.
    """

    def __init__(self, stages: Stages, steady: Steady | None, *, overlap: bool = True) -> None:
        self._stages, self._steady, self._overlap = stages, steady, overlap
        self._settled = Settled(settled)
        self._networks: ThreadPoolExecutor | None = None

    def begin(self, shown: Sequence[Shown], strength: Strength) -> Finish:
        """Restore some frames that follow those of the call before; what is returned waits for them.

        Calls are finished in the order in which they were begun.
        """
        seen = self._seen(shown)
        if not seen:
            return lambda: [self._pasted(item, [], strength) for item in shown]
        restorers = [face.restorer for item in shown for face in item.faces]
        restored = self._begun(restorers, [each.pixels for each, _ in seen])

        def finish() -> list[tuple[Frame, list[Rectangle]]]:
            pairs = iter(zip(restored(), *zip(*seen, strict=True), strict=True))
            return [self._pasted(item, [next(pairs) for _ in item.faces], strength) for item in shown]

        return finish

    def _begun(self, restorers: Sequence[Restorer], crops: Sequence[Crop]) -> Callable[[], list[Crop]]:
        if not self._overlap:
            restored = self._through(restorers, crops)
            return lambda: restored
        if self._networks is None:
            self._networks = ThreadPoolExecutor(1, "gpenvideo-networks")
        return self._networks.submit(self._through, restorers, crops).result

    def end(self) -> None:
        """No batch follows."""
        if self._networks is not None:
            self._networks.shutdown(cancel_futures=True)
            self._networks = None

    def _through(self, restorers: Sequence[Restorer], crops: Sequence[Crop]) -> list[Crop]:
        with self._stages("network"):
            return through_each(restorers, crops)

    def _seen(self, shown: Sequence[Shown]) -> list[tuple[Seen, Change | None]]:
        """The aligned faces, tone-mapped where the frame is HDR, and steady; what became of each."""
        found = []
        for item in shown:
            if item.starts_shot and self._steady:
                self._steady.cut()
            for face in item.faces:
                with self._stages("crop"):
                    seen = as_seen(
                        crop(item.frame, face.crop_from_frame, face.restorer.size_px), item.frame.colour
                    )
                change = None
                if self._steady:
                    with self._stages("steady"):
                        steadied = self._steady(face.track.id, item.time_s, seen.pixels)
                    seen, change = replace(seen, pixels=steadied.pixels), steadied.change
                found.append((seen, change))
        return found

    def _pasted(
        self, shown: Shown, made: Sequence[tuple[Crop, Seen, Change | None]], strength: Strength
    ) -> tuple[Frame, list[Rectangle]]:
        if shown.starts_shot:
            self._settled.cut()
        if not shown.faces:
            return shown.target, []
        pastes = []
        for face, (restored, seen, change) in zip(shown.faces, made, strict=True):
            template, original = face.restorer.template, seen.pixels
            if self._steady:
                with self._stages("steady"):
                    restored = self._settled(face.track.id, shown.time_s, restored, change)
            share = strength(face.track, lambda pair=(original, restored): pair, template)  # type: ignore[misc]
            matrix = shown.onto_target(face.crop_from_frame)
            pastes.append(((restored, original, matrix, template, share), seen.beyond))
        with self._stages("paste"):
            frame = shown.target.copy()
            faces = [_in_light_of(frame, paste_of(*given), beyond) for given, beyond in pastes]
            return frame, paste(frame, faces)


def _in_light_of(frame: Frame, made: Paste, beyond: Crop | None) -> Paste:
    """A face that is ready to be written, in the transfer and primaries of its frame."""
    if beyond is None:
        return made
    return replace(made, restored=returned(made.restored, beyond, frame.colour))
