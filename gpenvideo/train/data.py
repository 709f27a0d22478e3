"""Pairs to train on: aligned faces out of a folder, and what degradation makes of them.

    faces = FaceFolder("faces", 256, exclude_sources=["london_*"])
    stream = batches(faces, 16, seed=0, start_step=step)
    for degraded, truth in DataLoader(faces, batch_sampler=stream, num_workers=4, worker_init_fn=one_thread):
        ...

A picture is decoded and aligned once, into an array on disk that is mapped into memory; what is left for
each item is a small warp and the degradation. An item is a function of (seed, epoch, index) and of nothing
else, so neither the number of workers nor a restart changes what a run sees.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from gpenvideo.degradation import Preset, degrade, draw, greyscale
from gpenvideo.errors import GpenvideoError, OptionError, file_error
from gpenvideo.faces.alignment import crop_from_frame
from gpenvideo.faces.alignment import template as template_points
from gpenvideo.faces.portraits import Portrait, read_picture, read_portraits
from gpenvideo.kernels.crop import crop
from gpenvideo.kernels.picture import as_frame
from gpenvideo.weights import cache_dir

__all__ = ["FaceFolder", "Jitter", "batches", "one_thread"]

Template = Literal["ffhq", "gpen"]
Progress = Callable[[int, int], None]

MARGIN = 0.125  # cached on each side beyond the crop, of its size: what the jitter may reach
CACHE_FORMAT = 2  # to be raised when the same options make other crops
CHUNK = 256  # crops in flight while the cache is built


@dataclass(frozen=True, slots=True)
class Jitter:
    """How far an alignment may be off, uniformly to either side: as landmarks of bad footage are.

    shift_px      in each direction, px of the crop
    rotation_deg  about the middle of the crop
    scale         relative
    """

    shift_px: float = 4.0
    rotation_deg: float = 3.0
    scale: float = 0.05


class FaceFolder(Dataset[tuple[Tensor, Tensor]]):
    """Degraded and true faces from a folder.

    `faces[index]` and `faces[epoch, index]` are (degraded, truth), each (3, size_px, size_px) float32 RGB in
    [-1, 1] on the CPU. The truth is greyscale where the degradation took the colour, so that a restorer
    learns to keep a grey face grey.

    folder, exclude_sources, only_sources, min_side_px   see `read_portraits`
    size_px      side of the crops
    template     the alignment: "ffhq" or "gpen"
    presets      how often each preset of `gpenvideo.degradation.draw` is used, as weights
    colour       whether the degradation may change gamma and contrast
    grey_share   this part of the pairs is made greyscale, whatever else is done to it
    flip         half of the items are mirrored
    jitter       how far the alignment varies, or None
    seed         of everything random
    cache        folder for the aligned crops (default: the user's cache); 4.7 bytes per pixel of a crop
    progress     called with (done, total) while the cache is built

    Raises as `read_portraits`; OptionError for other options that cannot be used, FileError when the cache
    cannot be written.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        size_px: int,
        *,
        template: Template = "ffhq",
        presets: Mapping[Preset, float] | None = None,
        colour: bool = True,
        grey_share: float = 0.0,
        flip: bool = True,
        jitter: Jitter | None = None,
        exclude_sources: Sequence[str] = (),
        only_sources: Sequence[str] = (),
        min_side_px: float = 0,
        seed: int = 0,
        cache: str | os.PathLike[str] | None = None,
        progress: Progress | None = None,
    ) -> None:
        weights: dict[Preset, float] = {"base": 1.0} if presets is None else dict(presets)
        if not set(weights) <= set(get_args(Preset)) or min(weights.values(), default=0) < 0:
            raise OptionError(f"presets are weights for {', '.join(get_args(Preset))}, not {presets}")
        if sum(weights.values()) <= 0 or not 0 <= grey_share <= 1 or seed < 0:
            raise OptionError("a preset must have weight, grey_share lie in [0, 1] and seed be 0 or more")
        self.portraits = read_portraits(
            folder, exclude_sources=exclude_sources, only_sources=only_sources, min_side_px=min_side_px
        )
        self.size_px = size_px
        self.seed = seed
        self._presets = list(weights)
        self._thresholds = np.cumsum(list(weights.values())) / sum(weights.values())
        self._colour = colour
        self._grey_share = grey_share
        self._flip = flip
        self._jitter = jitter
        self._file = _cached_crops(
            Path(folder),
            self.portraits,
            size_px,
            template,
            Path(cache) if cache is not None else cache_dir().parent / "faces",
            progress or (lambda done, total: None),
        )
        self._crops: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.portraits)

    def __getitem__(self, key: int | tuple[int, int]) -> tuple[Tensor, Tensor]:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        if not 0 <= index < len(self):
            raise IndexError(f"there are {len(self)} faces, and no number {index}")
        rng = np.random.default_rng((self.seed, epoch, index))
        truth = self._view(index, rng) * np.float32(1 / 255)
        choice, grey = rng.random(2)
        preset = self._presets[int(np.searchsorted(self._thresholds, choice, side="right"))]
        degradation = draw(rng, preset, colour=self._colour)
        if degradation.grey or grey < self._grey_share:
            truth = greyscale(truth)
        return _tensor(degrade(truth, degradation, rng)), _tensor(truth)

    def __getstate__(self) -> dict[str, object]:
        # A memory map pickles as all of its bytes; each worker maps the file again instead.
        return self.__dict__ | {"_crops": None}

    def truth(self, index: int) -> NDArray[np.uint8]:
        """The aligned face as it is, neither moved nor mirrored: (size_px, size_px, 3) uint8 RGB."""
        margin = _margin_px(self.size_px)
        return np.array(self._cache()[index, margin : margin + self.size_px, margin : margin + self.size_px])

    def _cache(self) -> NDArray[np.uint8]:
        if self._crops is None:
            self._crops = np.load(self._file, mmap_mode="r")
        return self._crops

    def _view(self, index: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        """The face as one item sees it: jittered and perhaps mirrored."""
        mirrored, *off = rng.random(5)
        if self._jitter is None:
            face = self.truth(index)
        else:
            right, down, turn, grow = 2 * np.array(off) - 1
            margin = _margin_px(self.size_px)
            middle = (self.size_px + 2 * margin - 1) / 2
            turned_deg, scale = turn * self._jitter.rotation_deg, 1 + grow * self._jitter.scale
            matrix = np.asarray(cv2.getRotationMatrix2D((middle, middle), turned_deg, scale), np.float64)
            matrix[:, 2] += self._jitter.shift_px * np.array((right, down)) - margin
            size = (self.size_px, self.size_px)
            face = np.asarray(
                cv2.warpAffine(
                    self._cache()[index],
                    matrix,
                    size,
                    flags=cv2.INTER_CUBIC,
                    borderMode=cv2.BORDER_REFLECT_101,
                )
            )
        return face[:, ::-1] if self._flip and mirrored < 0.5 else face


def batches(
    dataset: FaceFolder, batch: int, seed: int, start_step: int = 0, *, rank: int = 0, world: int = 1
) -> Iterator[list[tuple[int, int]]]:
    """Endless batches of (epoch, index) for a DataLoader's `batch_sampler`, from `start_step` on.

    Epochs in a row, each a permutation of its own; what step n yields is a function of (the size of the
    dataset, batch, seed, n), so a run that starts again at step n sees what it would have seen. `batch`
    counts over all processes: process `rank` of `world` gets its equal part, and all of them together make
    the batch of one.

    Raises OptionError when `batch` cannot be split over `world`.
    """
    if batch < 1 or not 0 <= rank < world or batch % world:
        raise OptionError(f"a batch of {batch} cannot be split over {world} processes (rank {rank})")
    count, part = len(dataset), batch // world
    for step in itertools.count(start_step):
        first = step * batch + rank * part
        places = [divmod(place, count) for place in range(first, first + part)]
        yield [(epoch, int(_order(count, seed, epoch)[place])) for epoch, place in places]


def one_thread(worker: int = 0) -> None:
    """For a DataLoader's `worker_init_fn`: each worker computes with one thread, being one of several."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


@functools.lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, epoch)).permutation(count)


def _tensor(image: NDArray[np.float32]) -> Tensor:
    """(H, W, 3) in [0, 1] to (3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).mul_(2).sub_(1)


def _margin_px(size_px: int) -> int:
    return math.ceil(MARGIN * size_px)


def _crop_from_picture(one: Portrait, size_px: int, template: Template) -> NDArray[np.float64]:
    """Where the pixels of a picture go in the crop of `size_px`, (2, 3)."""
    if one.landmarks is not None:
        return crop_from_frame(one.landmarks, template_points(template, size_px))
    if template == "gpen":
        return crop_from_frame(template_points("ffhq", round(one.side_px)), template_points("gpen", size_px))
    scale = size_px / one.side_px
    shift = (scale - 1) / 2  # pixel centres at whole numbers: this makes the pictures' edges meet
    return np.array([[scale, 0, shift], [0, scale, shift]])


def _cached_crops(
    root: Path, portraits: list[Portrait], size_px: int, template: Template, cache: Path, progress: Progress
) -> Path:
    """The file of the crops with their margin, (N, C, C, 3) uint8; made when it is not there."""
    margin = _margin_px(size_px)
    side = size_px + 2 * margin
    file = cache / f"{template}-{size_px}-{_fingerprint(root, portraits, size_px, template)}.npy"
    if file.exists():
        return file

    def aligned(one: Portrait) -> bytes:
        matrix = _crop_from_picture(one, size_px, template)
        matrix[:, 2] += margin
        pixels = crop(as_frame(read_picture(root / one.file)), matrix, side)
        return bytes(np.rint((pixels + 1) * 127.5).astype(np.uint8).data)

    beside = cache / f"{file.name}.{os.getpid()}.part"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(os.cpu_count()) as pool, beside.open("wb") as out:
            header = {"descr": "|u1", "fortran_order": False, "shape": (len(portraits), side, side, 3)}
            np.lib.format.write_array_header_1_0(out, header)
            for start in range(0, len(portraits), CHUNK):
                for done, pixels in enumerate(pool.map(aligned, portraits[start : start + CHUNK]), start + 1):
                    out.write(pixels)
                    progress(done, len(portraits))
        beside.replace(file)
    except GpenvideoError:
        raise
    except OSError as error:
        raise file_error(error, cache, "write") from error
    finally:
        if beside.exists():
            beside.unlink()
    return file


def _fingerprint(root: Path, portraits: list[Portrait], size_px: int, template: Template) -> str:
    """What the crops depend on, as a short hash: options, landmarks, sizes and times of the files."""
    parts: list[object] = [CACHE_FORMAT, MARGIN, size_px, template]
    for one in portraits:
        try:
            state = (root / one.file).stat()
        except OSError as error:
            raise file_error(error, root / one.file, "read") from error
        parts.append((one.file, state.st_size, state.st_mtime_ns, one.landmarks))
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
