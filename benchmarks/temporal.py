"""Steadiness, on clips whose truth is known: how faces are followed, told apart, and restored over time.

    python -m benchmarks.temporal [--quick] [--data DIR] [--part NAME]

Scenes are those of `gpenvideo.evaluate.scenes`: portraits of DIR/faces (Face Research Lab London Set),
filmed by virtual cameras, made bad by the presets film and mild, written by x264 at crf 23 and read back.

tracking    where the aligned crop is in each frame, against the truth: of raw detections in every frame, as
            files have it (offline), and as cameras have it (live). Jitter is the rms second difference in
            time of the error of the crop's four corners, in eye distances. "Beyond bias": the mean difference
            between the detector's landmarks and the set's, in the face's own axes, is taken out; it is no
            error of following.
persons     tracks that keep their ids while people cross or something hides them; persons known on return
cuts        recall and precision; a cut is found where it starts at the very frame
steadiness  restored faces against the truth: "raw" is as tools for pictures do it (faces as they are found in
            each frame, nothing averaged), "no-temporal" has smooth tracks, "ships" is what runs by default;
            some clips of DIR/videos are made bad and restored likewise
cost        frames a second of whole runs, by turns

The decay's seeds are those whose film has no weave: it moves the picture, and the truth does not know it.
Each part has a file of its own in benchmarks/results.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from pathlib import Path

import torch

from benchmarks import following, measure, steadiness
from gpenvideo.evaluate.scenes import read_subjects

DATA = Path(__file__).parents[1].parent / "shared/data"
PEOPLE = 12
PARTS = {
    "tracking": following.tracking,
    "persons": following.persons,
    "cuts": following.cuts,
    "steadiness": steadiness.steadiness,
    "cost": steadiness.cost,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a seed each, nothing saved")
    parser.add_argument("--data", type=Path, default=DATA, help="holds faces/ and videos/")
    parser.add_argument("--part", choices=PARTS, help="this part alone")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch")
    parser.add_argument("--keep", type=Path, help="a folder for the clips")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    people = read_subjects(options.data / "faces", PEOPLE)
    for name in [options.part] if options.part else PARTS:
        with tempfile.TemporaryDirectory() as folder:
            place = options.keep or Path(folder)
            rows = PARTS[name](people, options.data / "videos", place, options.quick)
        for _, kind in itertools.groupby(rows, key=tuple):
            print(measure.table(list(kind)), end="\n\n", flush=True)
        if not options.quick:
            print(measure.save(f"temporal_{name}", rows))


if __name__ == "__main__":
    main()
