"""Evaluation: measures against other formulas, degraded sets to the byte, pairs, alignment, the sheet."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from portraits import Same
from skimage.data import astronaut
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from gpenvideo.errors import CheckpointError, FaceError, FileMissing, MediaError, OptionError
from gpenvideo.evaluate import image, sheet
from gpenvideo.evaluate.degraded import PARAMETERS, Decay, degrade_files, plan, resized
from gpenvideo.evaluate.examples import Alignment, Example, examples, prepare
from gpenvideo.evaluate.features import IdentityDistance, feature_measures
from gpenvideo.evaluate.pictures import Source, in_order, read_clean, read_pairs
from gpenvideo.evaluate.report import MEASURES, Evaluation, Judges, evaluate
from gpenvideo.face import Face
from gpenvideo.faces.alignment import template
from gpenvideo.networks import load_detector

pytestmark = pytest.mark.usefixtures("one_thread")

Pixels = NDArray[np.uint8]

LANDMARKS = [(202.5, 100.5), (245.6, 103.0), (224, 127), (202.5, 139.5), (244.5, 141)]
COLUMNS = "file,identity,source,ffhq_side_px," + ",".join(
    f"{p}_{axis}" for p in ("eye_l", "eye_r", "nose", "mouth_l", "mouth_r") for axis in "xy"
)


def face(side_px: int = 128, left: int = 160) -> Pixels:
    """The astronaut's face."""
    return resized(np.ascontiguousarray(astronaut()[40:168, left : left + 128]), side_px)


def tensor(*pictures: Pixels) -> torch.Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def write(path: Path, pixels: Pixels) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    """Four aligned faces, two folders deep."""
    for number, left in enumerate((150, 155, 160, 165)):
        write(tmp_path / "clean" / "ab"[number % 2] / f"{number}.png", face(64, left))
    return tmp_path / "clean"


def whole(size_px: int) -> Alignment:
    return Alignment(size_px, None)


# Measures


def test_measures_agree_with_scikit_image() -> None:
    truth, other = face(), cv2.GaussianBlur(face(), (0, 0), 2)
    noisy = np.clip(face() + np.random.default_rng(0).normal(0, 12, face().shape), 0, 255).astype(np.uint8)
    batch = tensor(other, noisy), tensor(truth, truth)
    for number, picture in enumerate((other, noisy)):
        psnr_db = peak_signal_noise_ratio(truth, picture)
        assert image.psnr_db(*batch)[number].item() == pytest.approx(psnr_db, abs=1e-3)
        reference = structural_similarity(
            truth,
            picture,
            channel_axis=2,
            data_range=255,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        assert image.ssim(*batch)[number].item() == pytest.approx(reference, abs=1e-4)


def test_psnr_ends_where_the_rounding_of_8_bits_begins() -> None:
    truth = face()
    rounding = 10 * math.log10(255**2 / (1 / 12))
    assert image.psnr_db(tensor(truth), tensor(truth)).item() == pytest.approx(rounding, abs=1e-3)
    near = truth.copy()
    near[::2] ^= 1  # half of the levels, one off
    wanted = peak_signal_noise_ratio(truth, near)
    assert image.psnr_db(tensor(near), tensor(truth)).item() == pytest.approx(wanted, abs=1e-3)
    assert wanted < rounding


def test_sharpness_and_correlation_are_those_of_the_gradients() -> None:
    truth, other = face(), cv2.GaussianBlur(face(), (0, 0), 1.5)

    def gradients(picture: Pixels) -> list[NDArray[np.float64]]:
        x = picture.astype(np.float64) / 127.5 - 1
        return [np.diff(x, axis=1), np.diff(x, axis=0)]

    a, b = gradients(other), gradients(truth)
    energy = [sum(np.mean(part**2) for part in parts) for parts in (a, b)]
    correlation = np.corrcoef(*(np.concatenate([part.ravel() for part in parts]) for parts in (a, b)))[0, 1]
    pair = tensor(other), tensor(truth)
    assert image.sharpness(*pair).item() == pytest.approx(energy[0] / energy[1], rel=1e-4)
    assert image.gradient_correlation(*pair).item() == pytest.approx(correlation, abs=1e-4)
    noise = np.random.default_rng(0).normal(0, 40, truth.shape)
    noisy = tensor(np.clip(other + noise, 0, 255).astype(np.uint8))
    assert image.sharpness(noisy, pair[1]).item() > 1  # noise is sharp, but it is no detail
    assert image.gradient_correlation(noisy, pair[1]).item() < correlation - 0.2


def test_landmark_error_is_in_eye_distances() -> None:
    truth = np.array(LANDMARKS)
    eyes_px = math.dist(LANDMARKS[0], LANDMARKS[1])
    assert image.landmark_error(truth + np.array((0, 0.1 * eyes_px)), truth) == pytest.approx(0.1)
    assert image.landmark_error(3 * truth + 7, 3 * truth) == pytest.approx(7 * math.sqrt(2) / (3 * eyes_px))


def test_networks_that_are_not_there_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPENVIDEO_CACHE", str(tmp_path))
    found = feature_measures("ffhq")
    assert found.on == {}
    assert "gpenvideo weights pull AlexNet" in found.off["lpips"]
    assert "gpenvideo weights pull ArcFace-IR-SE50" in found.off["identity"]


def test_identity_is_the_cosine_of_the_embeddings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from facexlib.recognition.arcface_arch import Backbone

    file = tmp_path / "weights" / "recognition_arcface_ir_se50.pth"  # as facexlib publishes it
    file.parent.mkdir()
    torch.save(Backbone(50, 0.6, "ir_se").state_dict(), file)
    monkeypatch.setenv("GPENVIDEO_CACHE", str(tmp_path))
    measure = feature_measures("ffhq").on["identity"]
    network: IdentityDistance = measure.__self__  # type: ignore[attr-defined]
    a, b = tensor(face()), tensor(cv2.GaussianBlur(face(), (0, 0), 6))
    with torch.inference_mode():
        same, other = measure(torch.cat([a, b]), torch.cat([a, a])).tolist()
        left, right = (network.embedding(x)[0].numpy() for x in (a, b))
    assert same == pytest.approx(1, abs=1e-5)
    assert other == pytest.approx(left @ right / np.linalg.norm(left) / np.linalg.norm(right), abs=1e-4)
    assert other < 1 - 1e-4
    torch.save({"weight": torch.zeros(1)}, file)
    with pytest.raises(CheckpointError):
        feature_measures("ffhq")


# Degraded sets


def degraded_bytes(source: Path, output: Path, decay: Decay, workers: int = 1) -> dict[str, bytes]:
    tasks, table = plan(source, output)
    assert list(degrade_files(tasks, table, decay, workers=workers)) == [None] * len(tasks)
    return {
        p.relative_to(output).as_posix(): p.read_bytes() for p in sorted(output.rglob("*")) if p.is_file()
    }


@pytest.mark.parametrize("preset", ["base", "film"])
def test_a_set_is_the_same_to_the_byte_on_any_worker_count(clean: Path, tmp_path: Path, preset: str) -> None:
    decay = Decay(7, preset)  # type: ignore[arg-type]
    one, three = (degraded_bytes(clean, tmp_path / f"by{n}", decay, n) for n in (1, 3))
    assert one == three
    assert set(one) == {"a/0.png", "a/2.png", "b/1.png", "b/3.png", "degradation.csv"}
    assert len(set(one.values())) == 5


def test_a_picture_is_degraded_for_its_name_whatever_else_is_there(clean: Path, tmp_path: Path) -> None:
    before = degraded_bytes(clean, tmp_path / "before", Decay(1))
    (clean / "a" / "0.png").unlink()
    write(clean / "a" / "00.png", face(64))
    after = degraded_bytes(clean, tmp_path / "after", Decay(1))
    assert before["b/3.png"] == after["b/3.png"]
    other = degraded_bytes(clean, tmp_path / "other", Decay(2))
    assert other["b/3.png"] != after["b/3.png"]


def test_the_table_says_what_was_done(clean: Path, tmp_path: Path) -> None:
    degraded_bytes(clean, tmp_path / "out", Decay(3, "film", colour=False))
    with (tmp_path / "out" / "degradation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["name", "preset", "seed", *PARAMETERS]
    assert [row["name"] for row in rows] == ["a/0", "a/2", "b/1", "b/3"]
    assert {(row["preset"], row["seed"], row["gamma"]) for row in rows} == {("film", "3", "")}
    for row in rows:
        grey = np.ptp(np.asarray(Image.open(tmp_path / "out" / f"{row['name']}.png")), axis=2).max() == 0
        assert grey == (row["film_grey"] == "True")
        assert row["down_scale"] == "" or 2 <= float(row["down_scale"]) <= 16


def test_sources_are_never_replaced(clean: Path, tmp_path: Path) -> None:
    for output in (clean, clean / "bad"):
        with pytest.raises(OptionError, match="among the sources"):
            plan(clean, output)
    picture = clean / "a" / "0.png"
    with pytest.raises(OptionError, match="replace a source"):
        plan(picture, clean / "a")
    link = tmp_path / "link.png"
    link.symlink_to(picture)
    with pytest.raises(OptionError, match="replace a source"):
        plan(picture, link)
    write(tmp_path / "set" / "a" / "x.png", face(64))
    write(tmp_path / "set" / "a" / "a" / "x.png", face(64))
    with pytest.raises(OptionError, match="replace a source"):
        plan(tmp_path / "set" / "a", tmp_path / "set")


def test_two_pictures_of_one_name_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "in" / "x.png", face(64))
    write(tmp_path / "in" / "x.jpg", face(64))
    with pytest.raises(OptionError, match="one name"):
        plan(tmp_path / "in", tmp_path / "out")


def test_a_bad_file_does_not_stop_the_others(clean: Path, tmp_path: Path) -> None:
    (clean / "a" / "0.png").write_bytes(b"no picture")
    tasks, table = plan(clean, tmp_path / "out")
    first, *rest = degrade_files(tasks, table, Decay(0), size_px=32)
    assert isinstance(first, MediaError)
    assert "0.png" in str(first)
    assert rest == [None] * 3
    assert np.asarray(Image.open(tmp_path / "out" / "b" / "1.png")).shape == (32, 32, 3)
    assert len(table.read_text().splitlines()) == 4


def test_in_order_holds_few_and_stops_when_it_is_left() -> None:
    started: list[int] = []

    def work(number: int) -> int:
        started.append(number)
        return number * number

    stream = in_order(work, range(1000), 2)
    assert [next(stream) for _ in range(3)] == [0, 1, 4]
    stream.close()
    assert len(started) < 12


# Pairs and alignment


def make_pairs(folder: Path, clean: Path, seed: int = 0) -> Path:
    for path in sorted(clean.rglob("*.png")):
        write(folder / "truth" / path.relative_to(clean), np.asarray(Image.open(path)))
    degraded_bytes(folder / "truth", folder / "input", Decay(seed))
    return folder


def test_pairs_are_matched_by_name_and_what_lacks_is_said(clean: Path, tmp_path: Path) -> None:
    folder = make_pairs(tmp_path / "set", clean)
    Image.open(folder / "truth" / "a" / "0.png").save(folder / "truth" / "a" / "0.bmp")
    (folder / "truth" / "a" / "0.png").unlink()
    found = read_pairs(folder)
    assert [one.name for one in found] == ["a/0", "a/2", "b/1", "b/3"]
    assert found[0].truth.name == "0.bmp"
    (folder / "truth" / "b" / "1.png").unlink()
    with pytest.raises(OptionError, match="1 of 4 pictures are not in it: b/1"):
        read_pairs(folder)
    with pytest.raises(FileMissing, match="input"):
        read_pairs(clean)


def test_several_clean_folders_are_named_from_where_they_meet(clean: Path) -> None:
    assert [one.name for one in read_clean([clean / "a", clean / "b"])] == ["a/0", "a/2", "b/1", "b/3"]
    assert [one.name for one in read_clean([clean / "a"])] == ["0", "2"]


def test_landmarks_come_from_faces_csv_else_from_the_detector(tmp_path: Path) -> None:
    write(tmp_path / "set" / "people" / "her.png", astronaut())
    numbers = ",".join(f"{n}" for point in LANDMARKS for n in point)
    (tmp_path / "set" / "faces.csv").write_text(f"{COLUMNS}\npeople/her.png,eileen,nasa,120,{numbers}\n")
    (source,) = read_clean([tmp_path / "set" / "people"])
    assert source.identity == "eileen"
    points = template("ffhq", 96)
    labelled = prepare(source, Alignment(96, points), Decay(0)).truth
    detector = load_detector()
    found = prepare(Source("her", source.truth), Alignment(96, points, detector), Decay(0)).truth
    for picture in (labelled, found):
        (seen,) = detector([cv2.resize(picture, (256, 256))])[0]
        error = image.landmark_error(seen.landmarks * 96 / 256, points)
        assert error < 0.15
    write(tmp_path / "empty.png", np.full((64, 64, 3), 90, np.uint8))
    (nobody,) = examples([Source("x", tmp_path / "empty.png")], Alignment(96, points, detector))
    assert isinstance(nobody, FaceError)
    assert "empty.png" in str(nobody)


def test_a_smaller_bad_picture_is_aligned_with_its_truth(tmp_path: Path) -> None:
    truth = write(tmp_path / "truth.png", astronaut())
    small = cv2.resize(astronaut(), (256, 256), interpolation=cv2.INTER_AREA)
    numbers = ",".join(f"{n}" for point in LANDMARKS for n in point)
    (tmp_path / "faces.csv").write_text(f"{COLUMNS}\ntruth.png,her,nasa,120,{numbers}\n")
    (labelled,) = read_clean([tmp_path])
    source = Source("x", truth, write(tmp_path / "small.png", small), None, labelled.portrait)
    example = prepare(source, Alignment(64, template("ffhq", 64)), None)
    shift, _ = cv2.phaseCorrelate(
        *(picture.mean(axis=2).astype(np.float32) for picture in (example.degraded, example.truth))
    )
    assert np.abs(shift).max() < 0.1
    assert image.psnr_db(tensor(example.degraded), tensor(example.truth)).item() > 28


def test_a_grey_picture_is_compared_with_the_grey_truth(tmp_path: Path) -> None:
    truth = write(tmp_path / "t.png", face(64))
    grey = np.repeat(np.asarray(Image.fromarray(face(64)).convert("L"))[..., None], 3, axis=2)
    source = Source("x", truth, write(tmp_path / "g.png", grey))
    example = prepare(source, whole(64), None)
    assert np.abs(example.truth.astype(int) - grey).max() <= 1
    assert np.array_equal(prepare(Source("x", truth, truth), whole(64), None).truth, face(64))


# The whole


class Blur:
    """A restorer that anybody can write."""

    size_px, max_batch, template = 64, 8, template("ffhq", 64)

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(pixels, 3, 1, 1, count_include_pad=False)


class Marks:
    """A detector that says where a picture is brightest, or finds nothing where all is one grey."""

    def __call__(self, pictures: Sequence[Pixels]) -> list[list[Face]]:
        return [[] if np.ptp(p) == 0 else [self.face(p)] for p in pictures]

    def face(self, picture: Pixels) -> Face:
        y, x = np.unravel_index(picture.sum(axis=2).argmax(), picture.shape[:2])
        points = np.array([(-5, -5), (5, -5), (0, 0), (-4, 6), (4, 6)]) + np.array((x, y))
        return Face(box=(0, 0, 60, 60), landmarks=points, score=1)


def run(sources: list[Source], out: Path, **how: object) -> Evaluation:
    options: dict[str, object] = {"restorer": Blur(), "workers": 2, "shown": 0} | how
    return evaluate(sources, out, whole(64), Judges(detector=Marks()), **options)  # type: ignore[arg-type]


def test_degrading_on_the_way_is_degrading_first(clean: Path, tmp_path: Path) -> None:
    first = run(read_pairs(make_pairs(tmp_path / "set", clean, seed=5)), tmp_path / "a")
    on_the_way = run(read_clean([clean]), tmp_path / "b", decay=Decay(5))
    for one, other in zip(first.rows, on_the_way.rows, strict=True):
        assert one.measures == pytest.approx(other.measures, nan_ok=True)
    assert first.means()["restored"]["psnr_db"] != first.means()["input"]["psnr_db"]


def test_the_table_holds_what_the_means_say(clean: Path, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    done = run(
        read_clean([clean]), tmp_path / "out", decay=Decay(0), progress=lambda *step: steps.append(step)
    )
    with done.table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["a/0", "a/2", "b/1", "b/3"]
    assert steps[-1] == (4, 4)
    means = done.means()
    assert set(means["restored"]) == set(MEASURES) - {"lpips", "identity"}
    for side, prefix in (("input", "input_"), ("restored", "")):
        for name, mean in means[side].items():
            values = [float(row[prefix + name]) for row in rows if row[prefix + name]]
            assert mean == pytest.approx(np.mean(values), rel=1e-4)
    truth = [np.asarray(Image.open(one.truth)) for one in read_clean([clean])]
    bad = [Decay(0)(picture, row["name"])[0] for picture, row in zip(truth, rows, strict=True)]
    wanted = [peak_signal_noise_ratio(a, b) for a, b in zip(truth, bad, strict=True)]
    assert means["input"]["psnr_db"] == pytest.approx(np.mean(wanted), abs=1e-3)
    assert rows[0]["lpips"] == ""
    assert done.sheet is None


def test_results_of_other_tools_are_judged_without_a_network(clean: Path, tmp_path: Path) -> None:
    folder = make_pairs(tmp_path / "set", clean)
    for path in sorted((folder / "truth").rglob("*.png")):
        better = np.asarray(Image.open(path)) // 2 * 2
        write(folder / "restored" / path.relative_to(folder / "truth"), better)
    done = run(read_pairs(folder), tmp_path / "out", restorer=None)
    assert done.means()["restored"]["psnr_db"] > 45
    (folder / "restored" / "b" / "3.png").unlink()
    with pytest.raises(OptionError, match=r"restored: 1 of 4 .* b/3"):
        read_pairs(folder)


def test_faces_that_are_lost_count_as_not_found(clean: Path, tmp_path: Path) -> None:
    lost = run(read_clean([clean]), tmp_path / "out", decay=Decay(0), restorer=Same(64, paint=0.0))
    means = lost.means()
    assert means["restored"]["found"] == 0
    assert "landmark_error" not in means["restored"]
    assert means["input"]["found"] == 1
    assert means["restored"]["sharpness"] == 0


def test_what_cannot_be_judged_is_named_and_the_rest_is_judged(clean: Path, tmp_path: Path) -> None:
    (clean / "a" / "2.png").write_bytes(b"no picture")
    write(clean / "b" / "1.png", face(64)[:40])
    done = run(read_clean([clean]), tmp_path / "out", decay=Decay(0), shown=4)
    assert sorted(Path(error.path or "").name for error in done.failures) == ["1.png", "2.png"]
    assert [row.name for row in done.rows] == ["a/0", "b/3"]
    assert done.sheet is not None
    with pytest.raises(OptionError, match="degrade"):
        run(read_clean([clean]), tmp_path / "out")


def test_the_network_may_have_another_size(clean: Path, tmp_path: Path) -> None:
    done = run(read_clean([clean]), tmp_path / "out", decay=Decay(0), restorer=Same(32))
    means = done.means()
    assert 0 < means["restored"]["sharpness"] < means["input"]["sharpness"]  # halved and enlarged
    (example,) = list(examples(read_clean([clean])[:1], whole(48), decay=Decay(0), restorer=Same(48)))
    assert isinstance(example, Example)
    assert np.array_equal(example.restored, example.degraded)


# The sheet


def test_the_sheet_has_the_extremes_and_everybody_once() -> None:
    rows = [(f"{i:03d}", f"person{i % 30}", float((i * 37) % 90)) for i in range(90)]
    chosen = sheet.choose(rows, 24)
    assert [mark for _, mark in chosen] == ["worst"] * 4 + [""] * 16 + ["best"] * 4
    quality = {name: value for name, _, value in rows}
    people = [f"person{int(name) % 30}" for name, _ in chosen]
    assert len(set(people)) == len(chosen) == 24
    assert quality[chosen[0][0]] == 0
    assert quality[chosen[-1][0]] == 89
    spread = [int(name) for name, mark in chosen if not mark]
    assert spread == sorted(spread)
    assert max(np.diff(spread)) < 20
    assert len(sheet.choose(rows[:5], 24)) == 5
    assert len({name for name, _ in sheet.choose([(f"{i}", "one", 0.0) for i in range(9)], 8)}) == 8


def test_the_sheet_shows_the_three_pictures_side_by_side(clean: Path, tmp_path: Path) -> None:
    done = run(read_clean([clean]), tmp_path / "out", decay=Decay(0), restorer=Same(64, paint=1.0), shown=4)
    assert done.sheet is not None
    pixels = np.asarray(Image.open(done.sheet))
    top, left = sheet.TEXT_PX, sheet.GAP_PX
    by_gain = sorted(done.rows, key=lambda row: row.gain_db)
    chosen = sheet.choose([(row.name, row.identity, row.gain_db) for row in done.rows], 4)
    truth = np.asarray(Image.open(clean / f"{chosen[0][0]}.png"))
    faces = [pixels[top : top + 64, left + 64 * i : left + 64 * (i + 1)] for i in range(3)]
    assert np.array_equal(faces[0], Decay(0)(truth, chosen[0][0])[0])
    assert (faces[1] == 255).all()
    assert np.array_equal(faces[2], truth)
    assert by_gain[0].gain_db < 0
