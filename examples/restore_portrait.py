"""Restore every face of a picture from Python, with the default weights or a checkpoint of yours.

python restore_portrait.py old.jpg restored.png [GPEN-BFR-512.pth]
"""

import sys
from dataclasses import replace

import gpenvideo
from gpenvideo.networks import load_detector
from gpenvideo.picture import as_uint8, read_picture, write_picture


def main(source: str, target: str, weights: str | None = None) -> None:
    restorer = gpenvideo.load(weights)
    picture = read_picture(source)  # upright, 8 or 16 bits, with its profile, EXIF and alpha
    faces = load_detector()([as_uint8(picture.rgb)])[0]
    large = [
        face for face in faces if face.box[2] - face.box[0] >= 24
    ]  # smaller ones hold too little to go by
    restored = gpenvideo.restore_image(picture.rgb, restorer, faces=large, strength=0.9)
    write_picture(replace(picture, rgb=restored), target)
    print(f"{len(large)} of {len(faces)} faces restored by {restorer}")


main(*sys.argv[1:])
