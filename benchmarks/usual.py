"""Video face restoration in the usual style, to compare with: frame by frame, every step on the whole frame.

Written from what such programs do, in their order: decode to BGR, facexlib's RetinaFace as it comes on the
frame at full size, an affine crop of each face, the network, the face and its mask warped back onto the whole
frame, the mask blurred there, a floating-point blend of the whole frame, encode.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from os import PathLike
from typing import Any

import av
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpenvideo.faces.alignment import template
from gpenvideo.faces.detector import PathOrState, fill, read_state

SURE = 0.97
Pixels = NDArray[np.uint8]


def retinaface(weights: PathOrState) -> Any:
    """facexlib's RetinaFace of mobilenet0.25, the faster of its two."""
    from facexlib.detection.retinaface import RetinaFace

    return fill(RetinaFace("mobile0.25", device=torch.device("cpu")), *read_state(weights))


def restore(
    source: str | PathLike[str],
    target: str | PathLike[str],
    detector: Any,
    network: Callable[[Tensor], Tensor],
    *,
    size_px: int = 256,
    crf: float = 17,
    preset: str = "veryfast",
    frames: int | None = None,
) -> int:
    """Restore the first `frames` of a video, pictures only; how many there were."""
    done = 0
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer, torch.no_grad():
        options = {"crf": f"{crf:g}", "preset": preset}
        decoded = reader.streams.video[0]
        stream = writer.add_stream("libx264", rate=decoded.average_rate, options=options)
        stream.width, stream.height, stream.pix_fmt = decoded.width, decoded.height, "yuv420p"
        for picture in reader.decode(decoded):
            if done == frames:
                break
            bgr = restored_frame(picture.to_ndarray(format="bgr24"), detector, network, size_px)
            writer.mux(stream.encode(av.VideoFrame.from_ndarray(bgr, format="bgr24")))
            done += 1
        writer.mux(stream.encode(None))
    return done


def restored_frame(bgr: Pixels, detector: Any, network: Callable[[Tensor], Tensor], size_px: int) -> Pixels:
    """A frame with its faces restored; (H, W, 3) uint8 BGR, as OpenCV has it."""
    height, width = bgr.shape[:2]
    result = bgr.astype(np.float32)
    for found in detector.detect_faces(bgr, SURE):
        landmarks = found[5:].reshape(5, 2)
        crop_from_frame = cv2.estimateAffinePartial2D(landmarks, template("ffhq", size_px), method=cv2.LMEDS)[
            0
        ]
        crop = cv2.warpAffine(bgr, crop_from_frame, (size_px, size_px), borderMode=cv2.BORDER_CONSTANT)
        pixels = torch.from_numpy(crop[..., ::-1].astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
        restored = network(pixels)[0].permute(1, 2, 0).clamp(-1, 1).numpy()[..., ::-1]
        face = ((restored + 1) * 127.5).round().astype(np.uint8)
        frame_from_crop = cv2.invertAffineTransform(crop_from_frame)
        pasted = cv2.warpAffine(face, frame_from_crop, (width, height))
        mask = blurred_mask(frame_from_crop, size_px, (width, height))
        result = mask * pasted + (1 - mask) * result
    return result.round().astype(np.uint8)


def blurred_mask(
    frame_from_crop: NDArray[Any], size_px: int, frame_size: tuple[int, int]
) -> NDArray[np.float32]:
    """(H, W, 1): the crop's square in the frame, eroded and blurred by a twentieth of its side."""
    mask = cv2.warpAffine(np.ones((size_px, size_px), np.float32), frame_from_crop, frame_size)
    edge = max(1, math.isqrt(int(mask.sum())) // 20)
    mask = cv2.erode(mask, np.ones((2 * edge, 2 * edge), np.uint8))
    return np.asarray(cv2.GaussianBlur(mask, (2 * edge + 1, 2 * edge + 1), 0))[..., None]
