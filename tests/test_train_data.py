"""The training pairs: alignment, selection, the cache, and that an item depends on its number alone."""

from __future__ import annotations

import csv
import itertools
import os
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader

from gpenvideo.degradation import Preset
from gpenvideo.errors import FileError, FileMissing, MediaError, OptionError
from gpenvideo.faces.alignment import crop_from_frame, template
from gpenvideo.faces.portraits import POINTS, read_portraits
from gpenvideo.train.data import FaceFolder, Jitter, Template, batches, one_thread

COLUMNS = ["file", "identity", "source", "ffhq_side_px", *(f"{p}_{axis}" for p in POINTS for axis in "xy")]


def dotted(width: int, height: int, points: NDArray[np.float64], seed: int = 0) -> NDArray[np.uint8]:
    """A dim, smooth picture with a bright dot at each point."""
    rng = np.random.default_rng(seed)
    ground = cv2.GaussianBlur(rng.random((height, width, 3), np.float32), (0, 0), 8)
    picture = 30 + 60 * (ground - ground.min()) / np.ptp(ground)
    y, x = np.mgrid[:height, :width]
    for px, py in points:
        picture += (150 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * 2.5**2)))[..., None]
    return np.clip(picture, 0, 255).astype(np.uint8)


def dots(face: NDArray[np.uint8], near: NDArray[np.float64], search: int = 0) -> NDArray[np.float64]:
    """Where the dots lie that are near the points given: brightest pixel, then centre of mass about it."""
    grey = face.mean(axis=2)
    found = []
    for px, py in np.rint(near).astype(int):
        window = grey[py - search : py + search + 1, px - search : px + search + 1]
        down, right = np.unravel_index(window.argmax(), window.shape)
        left, top = px - search + right - 7, py - search + down - 7
        weight = np.maximum(grey[top : top + 15, left : left + 15] - 120, 0)
        y, x = np.mgrid[:15, :15]
        found.append((left + (weight * x).sum() / weight.sum(), top + (weight * y).sum() / weight.sum()))
    return np.array(found)


def write_table(folder: Path, rows: list[dict[str, object]]) -> None:
    with (folder / "faces.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def make_folder(folder: Path, aligned_to: Template = "ffhq") -> Path:
    """Twelve pictures, four of each source, whose landmarks are a turned, scaled template; and faces.csv."""
    rows: list[dict[str, object]] = []
    for number in range(12):
        rng = np.random.default_rng(number)
        side, angle = rng.uniform(150, 240), np.deg2rad(rng.uniform(-25, 25))
        turn = np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
        points = (template(aligned_to, 1) - 0.5) @ turn.T * side + (150, 140)
        source = ("london_a", "paris", "rome")[number % 3]
        name = f"{source}/{number:02d}.png"
        (folder / source).mkdir(parents=True, exist_ok=True)
        Image.fromarray(dotted(300, 280, points, number)).save(folder / name)
        row = {"file": name, "identity": f"person{number}", "source": source, "ffhq_side_px": f"{side:.1f}"}
        rows.append(row | dict(zip(COLUMNS[4:], points.ravel().tolist(), strict=True)))
    write_table(folder, rows)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("faces"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def picture(truth: torch.Tensor) -> NDArray[np.uint8]:
    return torch.round((truth + 1) * 127.5).to(torch.uint8).permute(1, 2, 0).numpy()


# Alignment


@pytest.mark.parametrize("name", ["ffhq", "gpen"])
def test_landmarks_come_to_lie_on_the_template(tmp_path: Path, name: Template) -> None:
    make_folder(tmp_path / "faces", aligned_to=name)
    faces = FaceFolder(tmp_path / "faces", 128, template=name, cache=tmp_path)
    for index in range(len(faces)):
        face = faces.truth(index)
        assert face.shape == (128, 128, 3)
        assert np.abs(dots(face, template(name, 128)) - template(name, 128)).max() < 0.35


def test_real_faces_are_aligned_as_by_a_plain_warp(shared: Path, tmp_path: Path) -> None:
    root = shared / "data" / "faces"
    faces = FaceFolder(root, 256, only_sources=["lisa_zoom_cc0"], cache=tmp_path)
    with (root / "faces.csv").open(encoding="utf-8") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    for index, portrait in enumerate(faces.portraits):
        row = rows[portrait.file]
        points = np.array([(float(row[f"{p}_x"]), float(row[f"{p}_y"])) for p in POINTS])
        source = cv2.GaussianBlur(np.asarray(Image.open(root / portrait.file).convert("RGB")), (0, 0), 0.7)
        matrix = crop_from_frame(points, template("ffhq", 256))
        expected = cv2.warpAffine(source, matrix, (256, 256), borderMode=cv2.BORDER_REFLECT_101)
        difference = expected.astype(float) - faces.truth(index)
        assert 10 * np.log10(255**2 / np.mean(difference**2)) > 32


def test_ffhq_tree_is_shrunk_by_areas(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (3, 64, 64, 3), np.uint8)
    for number, pixels in enumerate(pictures):
        (tmp_path / "tree" / f"{number}000").mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "tree" / f"{number}000" / f"{number:05d}.png")
    small = FaceFolder(tmp_path / "tree", 16, cache=tmp_path)
    same = FaceFolder(tmp_path / "tree", 64, cache=tmp_path)
    assert [one.source for one in small.portraits] == ["0000", "1000", "2000"]
    for index, pixels in enumerate(pictures):
        means = pixels.reshape(16, 4, 16, 4, 3).mean(axis=(1, 3))
        assert np.abs(small.truth(index) - means).mean() < 3  # of noise, whose means are spread by 18
        assert np.array_equal(same.truth(index), pixels)


def test_ffhq_tree_comes_to_the_gpen_template(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    Image.fromarray(dotted(256, 256, template("ffhq", 256))).save(tmp_path / "tree" / "a.png")
    faces = FaceFolder(tmp_path / "tree", 128, template="gpen", cache=tmp_path)
    # The two templates are different faces: a similarity brings them together to about a pixel.
    assert np.abs(dots(faces.truth(0), template("gpen", 128)) - template("gpen", 128)).max() < 3


# Selection


def test_sources_are_left_out_or_in(folder: Path) -> None:
    assert {one.source for one in read_portraits(folder, exclude_sources=["london_*"])} == {"paris", "rome"}
    assert {one.source for one in read_portraits(folder, only_sources=["london_*"])} == {"london_a"}
    assert len(read_portraits(folder)) == 12
    sides = sorted(one.side_px for one in read_portraits(folder))
    kept = read_portraits(folder, min_side_px=sides[5])
    assert sorted(one.side_px for one in kept) == sides[5:]


def test_a_slip_in_a_source_is_refused(folder: Path) -> None:
    with pytest.raises(OptionError, match=r"no source fits 'londn_\*'"):
        read_portraits(folder, exclude_sources=["londn_*"])
    with pytest.raises(OptionError, match="no picture is left"):
        read_portraits(folder, min_side_px=1000)


def test_excluded_pictures_are_not_even_read(tmp_path: Path) -> None:
    make_folder(tmp_path / "faces")
    for path in (tmp_path / "faces" / "london_a").iterdir():
        path.write_bytes(b"not a picture")
    assert len(FaceFolder(tmp_path / "faces", 32, exclude_sources=["london_a"], cache=tmp_path)) == 8
    with pytest.raises(MediaError, match=r"london_a/00\.png: it is not a picture"):
        FaceFolder(tmp_path / "faces", 32, cache=tmp_path)


def test_validation_is_held_out(shared: Path) -> None:
    chosen = read_portraits(shared / "data" / "faces", exclude_sources=["london_*"])
    assert len(chosen) == 2930 - 104
    assert not any(one.file.startswith("london") for one in chosen)


# Items


@pytest.mark.parametrize("preset", ["base", "film"])
def test_items_are_pairs_in_range(folder: Path, cache: Path, preset: Preset) -> None:
    faces = FaceFolder(folder, 48, presets={preset: 1}, jitter=Jitter(), cache=cache)
    for index in range(len(faces)):
        for image in (degraded_and_truth := faces[3, index]):
            assert image.shape == (3, 48, 48)
            assert image.dtype == torch.float32
            assert -1 <= image.min() < image.max() <= 1
        assert not torch.equal(*degraded_and_truth)


def test_items_depend_on_seed_epoch_and_index_alone(folder: Path, cache: Path) -> None:
    def make(seed: int) -> FaceFolder:
        presets: dict[Preset, float] = {"base": 1, "film": 1}
        return FaceFolder(folder, 32, presets=presets, jitter=Jitter(), seed=seed, cache=cache)

    one, two = make(1), make(1)
    backwards = {index: two[5, index] for index in reversed(range(12))}
    for index in range(12):
        first = one[5, index]
        assert torch.equal(first[0], backwards[index][0])
        assert torch.equal(first[1], backwards[index][1])
        assert not torch.equal(first[0], one[6, index][0])
        assert not torch.equal(first[0], make(2)[5, index][0])
        assert torch.equal(one[index][0], one[0, index][0])
    with pytest.raises(IndexError):
        one[12]


def test_worker_count_changes_nothing(folder: Path, cache: Path) -> None:
    faces = FaceFolder(folder, 32, presets={"film": 1}, jitter=Jitter(), cache=cache)
    faces[0]  # the map is open in this process before the workers start
    cv2.GaussianBlur(np.zeros((512, 512, 3), np.float32), (0, 0), 3)  # and so are OpenCV's threads

    def first(workers: int) -> list[torch.Tensor]:
        stream = batches(faces, 5, seed=4, start_step=2)
        loader = DataLoader(
            faces,
            batch_sampler=stream,
            num_workers=workers,
            worker_init_fn=one_thread if workers else None,
            multiprocessing_context="forkserver" if workers else None,
        )
        return [image for pair in itertools.islice(loader, 4) for image in pair]

    alone = first(0)
    assert [tuple(image.shape) for image in alone] == [(5, 3, 32, 32)] * 8
    assert all(torch.equal(a, b) for a, b in zip(alone, first(2), strict=True))


def test_a_dataset_travels_without_its_pixels(folder: Path, cache: Path) -> None:
    faces = FaceFolder(folder, 64, cache=cache)
    expected = faces[1, 7]
    data = pickle.dumps(faces)
    assert len(data) < 20_000
    assert torch.equal(pickle.loads(data)[1, 7][0], expected[0])


def test_without_jitter_an_item_is_the_face_or_its_mirror(folder: Path, cache: Path) -> None:
    faces = FaceFolder(folder, 48, cache=cache)
    mirrored = 0
    for epoch, index in itertools.product(range(8), range(12)):
        seen, face = picture(faces[epoch, index][1]), faces.truth(index)
        if not np.array_equal(seen, face):
            assert np.array_equal(seen, face[:, ::-1])
            mirrored += 1
    assert 30 < mirrored < 66
    straight = FaceFolder(folder, 48, flip=False, cache=cache)
    assert np.array_equal(picture(straight[5][1]), straight.truth(5))


def test_jitter_moves_a_face_as_far_as_said(folder: Path, cache: Path) -> None:
    points = template("ffhq", 128)
    moved, turned, scaled = [], [], []
    faces = FaceFolder(folder, 128, flip=False, jitter=Jitter(4, 3, 0.05), cache=cache)
    for epoch, index in itertools.product(range(8), range(12)):
        found = dots(picture(faces[epoch, index][1]), points, search=9)
        still = dots(faces.truth(index), points)
        matrix = crop_from_frame(still, found)
        moved.append(matrix[:, :2] @ (63.5, 63.5) + matrix[:, 2] - 63.5)
        turned.append(np.rad2deg(np.arctan2(matrix[1, 0], matrix[0, 0])))
        scaled.append(np.hypot(matrix[0, 0], matrix[1, 0]) - 1)
    assert 3.5 < np.abs(moved).max() < 4.3
    assert 2.6 < np.abs(turned).max() < 3.2
    assert 0.045 < np.abs(scaled).max() < 0.055


def test_grey_pairs_are_grey_on_both_sides(folder: Path, cache: Path) -> None:
    faces = FaceFolder(folder, 32, grey_share=1.0, colour=False, cache=cache)
    assert all(torch.equal(truth[0], truth[2]) for _, truth in (faces[i] for i in range(12)))
    film = FaceFolder(folder, 32, presets={"film": 1}, cache=cache)
    grey = 0
    for epoch, index in itertools.product(range(6), range(12)):
        degraded, truth = film[epoch, index]
        if torch.equal(truth[0], truth[1]):
            grey += 1
            assert (degraded[0] - degraded[1]).abs().max() <= 2.02 / 255
    assert 25 < grey < 60


# The cache


def test_crops_are_made_once(tmp_path: Path) -> None:
    make_folder(tmp_path / "faces")
    calls: list[tuple[int, int]] = []

    def build(**options: object) -> FaceFolder:
        calls.clear()
        return FaceFolder(
            tmp_path / "faces",
            32,
            cache=tmp_path / "cache",
            progress=lambda done, total: calls.append((done, total)),
            **options,  # type: ignore[arg-type]
        )

    faces = build()
    assert calls == [(done, 12) for done in range(1, 13)]
    build(seed=3, jitter=Jitter(), presets={"film": 1.0})
    assert calls == []
    build(template="gpen")
    assert len(calls) == 12
    build(only_sources=["rome"])
    assert len(calls) == 4

    before = faces.truth(2)
    changed = tmp_path / "faces" / faces.portraits[2].file
    Image.fromarray(np.full((280, 300, 3), 77, np.uint8)).save(changed)
    os.utime(changed, ns=(1, 1))
    assert build().truth(2).min() == build().truth(2).max() == 77
    assert np.array_equal(faces.truth(2), before)
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == [".npy"] * 4


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    make_folder(tmp_path / "faces")
    damaged = tmp_path / "faces" / "rome" / "11.png"
    damaged.write_bytes(damaged.read_bytes()[:3000])
    with pytest.raises(MediaError, match=r"11\.png: the picture is damaged"):
        FaceFolder(tmp_path / "faces", 32, cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    damaged.unlink()
    with pytest.raises(FileMissing, match=r"11\.png: cannot read it"):
        FaceFolder(tmp_path / "faces", 32, cache=tmp_path / "cache")
    (tmp_path / "occupied").write_text("a file")
    with pytest.raises(FileError, match="occupied: cannot write it"):
        FaceFolder(tmp_path / "faces", 32, only_sources=["paris"], cache=tmp_path / "occupied")


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="no such folder of faces"):
        FaceFolder(tmp_path / "nowhere", 32, cache=tmp_path)
    Image.new("RGB", (40, 30)).save(tmp_path / "wide.png")
    with pytest.raises(MediaError, match="40x30"):
        FaceFolder(tmp_path, 32, cache=tmp_path)
    (tmp_path / "faces.csv").write_text("file,identity\nwide.png,me\n")
    with pytest.raises(MediaError, match=r"faces\.csv: it has no column 'source'"):
        FaceFolder(tmp_path, 32, cache=tmp_path)
    (tmp_path / "faces.csv").write_text(",".join(COLUMNS) + "\nwide.png,me,here,large" + ",1" * 10 + "\n")
    with pytest.raises(MediaError, match="'large'"):
        FaceFolder(tmp_path, 32, cache=tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        {"presets": {"strong": 1}},
        {"presets": {"base": 0}},
        {"presets": {"base": -1, "film": 2}},
        {"grey_share": 1.5},
        {"seed": -1},
        {"template": "arcface"},
    ],
)
def test_options_that_cannot_be_used(folder: Path, cache: Path, options: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        FaceFolder(folder, 32, cache=cache, **options)  # type: ignore[arg-type]


# The order


def test_each_epoch_is_a_permutation_of_its_own(folder: Path, cache: Path) -> None:
    faces = FaceFolder(folder, 32, cache=cache)
    flat = list(itertools.chain.from_iterable(itertools.islice(batches(faces, 5, seed=0), 36)))
    orders = [[index for epoch, index in flat if epoch == number] for number in range(15)]
    assert [epoch for epoch, _ in flat] == sorted(epoch for epoch, _ in flat)
    assert all(sorted(order) == list(range(12)) for order in orders)
    assert len({tuple(order) for order in orders}) == 15
    assert flat[:5] != next(batches(faces, 5, seed=1))


def test_the_stream_goes_on_where_it_stopped(folder: Path, cache: Path) -> None:
    faces = FaceFolder(folder, 32, cache=cache)
    whole = list(itertools.islice(batches(faces, 8, seed=3), 40))
    assert list(itertools.islice(batches(faces, 8, seed=3, start_step=17), 23)) == whole[17:]


def test_processes_share_the_batch_of_one(folder: Path, cache: Path) -> None:
    faces = FaceFolder(folder, 32, cache=cache)
    parts = [batches(faces, 8, seed=3, rank=rank, world=2) for rank in range(2)]
    for whole, first, second in itertools.islice(zip(batches(faces, 8, seed=3), *parts, strict=True), 20):
        assert whole == first + second
    with pytest.raises(OptionError, match="batch of 8 cannot be split over 3"):
        next(batches(faces, 8, seed=3, world=3))
