"""Restore one portrait with a GPEN checkpoint, on the command line that its model card gives.

    run_gpen.py --input old.jpg --output new.png --model_path GPEN-BFR-2048.pth --size 2048 --face_align

Without --face_align the input must be an aligned face already; anything else is refused.
"""

import argparse
import sys

import gpenvideo
from gpenvideo.networks import load_detector
from gpenvideo.picture import read_picture
from gpenvideo.still import check_aligned


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--model_path", help="a checkpoint; default: the weights that ship")
    parser.add_argument("--size", type=int, help="the network's size, checked against the checkpoint's")
    parser.add_argument("--face_align", action="store_true", help="find and align the faces of the input")
    parser.add_argument("--detector", help="RetinaFace weights; default: the ones of this machine")
    options = parser.parse_args()
    try:
        restorer = gpenvideo.load(options.model_path)
        if options.size not in (None, restorer.size_px):
            raise gpenvideo.OptionError(f"the checkpoint is of another size: --size {restorer.size_px}")
        detector = gpenvideo.RetinaFaceDetector(options.detector) if options.detector else load_detector()
        aligned = not options.face_align
        if aligned:
            check_aligned(read_picture(options.input).rgb, restorer, detector)
        gpenvideo.restore_picture(options.input, options.output, restorer, aligned=aligned, detector=detector)
    except gpenvideo.GpenvideoError as error:
        sys.exit(f"run_gpen: {error}")


main()
