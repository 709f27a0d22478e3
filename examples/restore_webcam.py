"""Restore a camera, a stream or a file while it plays, and record it until Ctrl-C.

    python examples/restore_webcam.py 0 restored.mkv
    python examples/restore_webcam.py rtsp://camera.local/live restored.mkv

`gpenvideo live` does this and more: a window, a page for browsers, a virtual camera, RTMP.
"""

import contextlib
import sys

from gpenvideo.live.encoded import Encoded
from gpenvideo.live.outputs import Paced
from gpenvideo.live.session import LiveSession, Settings, live_networks
from gpenvideo.video.camera import Camera


def main(source: str, target: str) -> None:
    networks = live_networks()
    with Camera(source) as camera, Paced(Encoded(target), 16) as recording:
        session = LiveSession(camera, networks, Settings(max_latency_s=0.5))
        with contextlib.suppress(KeyboardInterrupt):
            for shown in session:
                recording.push(shown)
                if shown.number % 25 == 0:
                    print(f"{shown.faces} faces, {1000 * shown.latency_s:.0f} ms late {shown.step}")
        stats = session.stats()
    print(f"{stats.frames} frames restored, {stats.dropped} dropped")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
