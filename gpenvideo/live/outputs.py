"""Outputs: where shown frames go, each at its own pace; a virtual camera."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from gpenvideo.errors import DependencyError, DeviceError
from gpenvideo.live.picture import pixels
from gpenvideo.live.pushed import Pushed

if TYPE_CHECKING:
    from gpenvideo.live.session import Shown

__all__ = ["Output", "Paced", "Showing", "VirtualCamera"]

VIRTUAL_HZ = 30


class Output(Protocol):
    """Where frames go."""

    def write(self, shown: Shown) -> None:
        """Show, send or write a frame."""

    def close(self) -> None:
        """Finish; called in the thread of `write`."""


class Paced:
    """An output in a thread of its own, which takes what is new when it is done with what was.

    An error of the output is raised by the next `push`, or by `close`.

    Args:
        output: is written to and closed in that thread.
        waiting: how many frames may wait; the oldest is dropped for one more.
    """

    def __init__(self, output: Output, waiting: int = 1) -> None:
        self.output = output
        self.written = 0
        self._frames: Pushed[Shown] = Pushed(waiting)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"gpenvideo-{output}", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Frames that came too fast for it."""
        return self._frames.dropped

    def push(self, shown: Shown) -> None:
        """Hand a frame over."""
        self._raise()
        self._frames.push(shown)

    def close(self, patience_s: float | None = None) -> None:
        """Finish what waits and close the output; wait for that for `patience_s` at most."""
        self._frames.finish()
        self._thread.join(patience_s)
        self._raise()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except Exception:
            if kind is None:
                raise

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(self) -> None:
        try:
            try:
                for shown in self._frames:
                    self.output.write(shown)
                    self.written += 1
            finally:
                self.output.close()
        except BaseException as error:
            self._error = error
        finally:
            self._frames.close()


class Showing:
    """A session that runs in a thread of its own; `take` gives the newest of what it shows.

    Args:
        shown: the session, or a part of it.
        pushes: are called with every frame, in that thread; they return at once.
    """

    def __init__(self, shown: Iterable[Shown], pushes: Sequence[Callable[[Shown], None]] = ()) -> None:
        self._newest: Pushed[Shown] = Pushed()
        self._shown, self._pushes = shown, pushes
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="gpenvideo-restore", daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        """Whether `take` will give nothing more; what the session raised is raised here."""
        if not self._newest.is_over:
            return False
        error, self._error = self._error, None
        if error is not None:
            raise error
        return True

    def take(self, timeout_s: float) -> Shown | None:
        """The newest frame that was not taken; None where none comes in that time."""
        return self._newest.take(timeout_s)

    def join(self) -> None:
        """Wait for the thread, whose session was closed."""
        self._thread.join()

    def _run(self) -> None:
        try:
            for shown in self._shown:
                for push in self._pushes:
                    push(shown)
                self._newest.push(shown)
        except BaseException as error:
            self._error = error
        finally:
            self._newest.finish()


class VirtualCamera:
    """A camera that other programs see: v4l2loopback on Linux, OBS elsewhere.

    Args:
        device: its path or name; None is the first.

    Raises:
        DependencyError: pyvirtualcam is not installed. DeviceError: there is no such device; by `write`.
    """

    def __init__(self, device: str | None = None) -> None:
        try:
            import pyvirtualcam
        except ImportError as error:
            raise DependencyError("a virtual camera takes pyvirtualcam: pip install pyvirtualcam") from error
        self._module = pyvirtualcam
        self.device = device
        self._camera: Any = None

    def __str__(self) -> str:
        return "virtual camera"

    def write(self, shown: Shown) -> None:
        frame = shown.frame
        if self._camera is None:
            try:
                self._camera = self._module.Camera(
                    frame.width,
                    frame.height,
                    VIRTUAL_HZ,
                    device=self.device,
                    fmt=self._module.PixelFormat.RGB,
                )
            except RuntimeError as error:
                reason = str(error).split(". ", 1)[0]
                raise DeviceError(f"no virtual camera could be opened: {reason}") from error
        self._camera.send(_sized(pixels(frame), (self._camera.width, self._camera.height)))

    def close(self) -> None:
        if self._camera is not None:
            self._camera.close()


def _sized(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """A picture of (H, W, 3) at a width and height, contiguous."""
    if picture.shape[1::-1] != size:
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
    return np.ascontiguousarray(picture)
