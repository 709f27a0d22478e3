"""The host's way of restoring the faces of some frames: crops out of planes, through networks, and back."""

from __future__ import annotations

from collections.abc import Sequence

from gpenvideo.crops import Crop, Shown, Strength, paste_of, through_each
from gpenvideo.frame import Frame, Rectangle
from gpenvideo.kernels.crop import crop
from gpenvideo.kernels.paste import paste
from gpenvideo.stages import Stages
from gpenvideo.steady import Steady

__all__ = ["HostFaces"]


class HostFaces:
    """Restores the faces of frames whose planes lie in the host's memory, on any device.

    Args:
        stages: where the seconds are counted.
        steady: averages the crops of a stream; None leaves them as they are.
    """

    def __init__(self, stages: Stages, steady: Steady | None) -> None:
        self._stages, self._steady = stages, steady

    def __call__(self, shown: Sequence[Shown], strength: Strength) -> list[tuple[Frame, list[Rectangle]]]:
        """Some frames that follow each other, restored.

        Returns:
            Each frame, a copy where there is a face; and where its faces were written.
        """
        faces = [face for item in shown for face in item.faces]
        crops = self._crops(shown)
        with self._stages("network"):
            restored = through_each([face.restorer for face in faces], crops)
        pairs = iter(zip(restored, crops, strict=True))
        return [self._pasted(item, [next(pairs) for _ in item.faces], strength) for item in shown]

    def _crops(self, shown: Sequence[Shown]) -> list[Crop]:
        """The aligned faces, steady."""
        crops: list[Crop] = []
        for item in shown:
            if item.starts_shot and self._steady:
                self._steady.cut()
            for face in item.faces:
                with self._stages("crop"):
                    pixels = crop(item.frame, face.crop_from_frame, face.restorer.size_px)
                if self._steady:
                    with self._stages("steady"):
                        pixels = self._steady(face.track.id, item.time_s, pixels)
                crops.append(pixels)
        return crops

    def _pasted(
        self, shown: Shown, made: Sequence[tuple[Crop, Crop]], strength: Strength
    ) -> tuple[Frame, list[Rectangle]]:
        if not shown.faces:
            return shown.frame, []
        pastes = []
        for face, (restored, original) in zip(shown.faces, made, strict=True):
            template = face.restorer.template
            share = strength(face.track, lambda pair=(original, restored): pair, template)  # type: ignore[misc]
            pastes.append((restored, original, face.crop_from_frame, template, share))
        with self._stages("paste"):
            frame = shown.frame.copy()
            return frame, paste(frame, [paste_of(*given) for given in pastes])
