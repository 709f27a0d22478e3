"""Restore the faces of a video from Python, with progress, and say what was done.

python examples/restore_video.py old.mkv restored.mkv
"""

import sys

import gpenvideo


def show(progress: gpenvideo.Progress) -> None:
    if progress.frames % 25 == 0:
        print(f"{progress.frames} of {progress.total or '?'} frames, {progress.faces} faces")


def main(source: str, target: str) -> None:
    report = gpenvideo.restore_video(
        source,
        target,
        options=gpenvideo.RestoreOptions(strength=0.9, max_faces=4),
        encoding=gpenvideo.Encoding(crf=16, preset="slow"),
        progress=show,
    )
    for track in report.tracks:
        print(f"face {track.id}: from {track.first_s:.2f} s to {track.last_s:.2f} s")
    for warning in report.warnings:
        print(f"note: {warning}")
    print(f"{report.fps:.1f} frames a second; the time went to {report.stages_s}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
