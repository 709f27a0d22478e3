"""Find the faces of a video, leave out those that are hardly there, and restore the rest.

python examples/edit_tracks.py old.mkv restored.mkv tracks.json
"""

import sys
from pathlib import Path

import gpenvideo


def main(source: str, target: str, document: str) -> None:
    if Path(document).exists():  # a person may have edited it
        tracks = gpenvideo.read_tracks(document)
    else:
        tracks = gpenvideo.analyse_video(source, document)  # and a contact sheet beside it, as .png
    for track in tracks.tracks:
        first_s, last_s = tracks.time_s(track.first_pts), tracks.time_s(track.last_pts)
        width_px = float((track.faces["box"][:, 2] - track.faces["box"][:, 0]).mean())
        print(f"track {track.id}: from {first_s:.2f} s to {last_s:.2f} s, {width_px:.0f} px wide")
        if width_px < 16 or last_s - first_s < 0.1:
            tracks = tracks.edited(track.id, skip=True)
        elif width_px < 64:
            tracks = tracks.edited(track.id, strength=0.7)
    gpenvideo.write_tracks(tracks, document)
    report = gpenvideo.restore_video(source, target, tracks=tracks)
    print(f"{report.faces} faces of {len(report.tracks)} tracks")


if __name__ == "__main__":
    main(*sys.argv[1:4])
