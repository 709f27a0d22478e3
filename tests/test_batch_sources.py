"""What files folders, patterns and lists stand for, where results go, and what holds for each file."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from clips import write_clip
from hypothesis import given, settings
from hypothesis import strategies as st

from gpenvideo.batch.settings import SETTINGS, folder_settings, work_of
from gpenvideo.batch.sources import find_sources, is_whole, stamp_of
from gpenvideo.cli.batch import ADDRESS
from gpenvideo.cli.overview import duration, shown_name
from gpenvideo.errors import FileError, FileMissing, OptionError
from gpenvideo.pipeline import RestoreOptions
from gpenvideo.segmented.work import Work

Told = Callable[..., Any]  # see the fixture `said`

TREE = ("a.mkv", "B.MP4", "notes.txt", ".hidden.mkv", ".part/x.mkv", "in/c.mov", "in/deep/a.mkv", "in/-d.ts")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of (empty) files, which is the current one."""
    for name in TREE:
        path = tmp_path / "films" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path / "films")
    return tmp_path / "films"


def places(tree: Path, *names: str, out: str = "out", **how: Any) -> dict[str, str]:
    """Where results go: source, from the tree on, to place."""
    found = find_sources(names, out, **how)
    return {str(Path(f.source).relative_to(tree)): f.relative for f in found}


def test_a_folder(tree: Path) -> None:
    assert places(tree, str(tree)) == {"B.MP4": "B.MP4", "a.mkv": "a.mkv"}
    assert places(tree, "films", "in") == {"films": "films", "in/-d.ts": "-d.ts", "in/c.mov": "c.mov"}
    whole = places(tree, ".", recursive=True)
    assert whole == {name: name for name in ("B.MP4", "a.mkv", "in/-d.ts", "in/c.mov", "in/deep/a.mkv")}
    assert places(tree, "in", suffix=".mp4") == {"in/-d.ts": "-d.mp4", "in/c.mov": "c.mp4"}


def test_what_lies_among_the_results_is_no_source(tree: Path) -> None:
    assert "in/c.mov" not in places(tree, ".", out="in", recursive=True)
    assert places(tree, "**/*.mov", out="elsewhere") == {"in/c.mov": "in/c.mov"}
    with pytest.raises(FileMissing):
        places(tree, "**/*.mov", out="in")


def test_files_are_taken_as_they_are_called(tree: Path) -> None:
    assert places(tree, "notes.txt", "in/-d.ts") == {"notes.txt": "notes.txt", "in/-d.ts": "-d.ts"}
    (tree / "a[1]*.mkv").touch()
    assert places(tree, "a[1]*.mkv") == {"a[1]*.mkv": "a[1]*.mkv"}
    assert places(tree, "a.mkv", "./a.mkv", str(tree)).keys() == {"a.mkv", "B.MP4", "a[1]*.mkv"}


def test_patterns(tree: Path) -> None:
    assert places(tree, "*.mkv") == {"a.mkv": "a.mkv"}
    assert places(tree, "**/*.mkv") == {"a.mkv": "a.mkv", "in/deep/a.mkv": "in/deep/a.mkv"}
    assert places(tree, "in/[a-c]*") == {"in/c.mov": "c.mov"}
    assert places(tree, "i?/deep/*") == {"in/deep/a.mkv": "in/deep/a.mkv"}
    with pytest.raises(FileMissing, match="no file matches the pattern"):
        places(tree, "*.webm")


def test_lists(tree: Path) -> None:
    """One name a line, from the list's folder on; with NUL characters, names may hold anything."""
    odd = "new\nline \udcff.mkv"
    (tree / odd).touch()
    (tree / "in" / "list.txt").write_bytes(b"\xef\xbb\xbf# films\r\n\r\n../a.mkv\r\nc.mov\r\ndeep\r\n")
    assert places(tree, "@in/list.txt") == {
        "a.mkv": "a.mkv",
        "in/c.mov": "c.mov",
        "in/deep/a.mkv": "deep/a.mkv",
    }
    (tree / "nul").write_bytes(os.fsencode(f"{odd}\0B.MP4\0"))
    assert places(tree, "@nul") == {odd: odd, "B.MP4": "B.MP4"}
    (tree / "@at.mkv").touch()
    assert places(tree, "@at.mkv") == {"@at.mkv": "@at.mkv"}
    with pytest.raises(FileMissing, match="none"):
        places(tree, "@none")


def test_two_sources_of_one_place(tree: Path) -> None:
    with pytest.raises(OptionError, match="would both become") as raised:
        places(tree, "a.mkv", "in/deep/a.mkv")
    assert "\n" not in str(raised.value)
    (tree / "B.mkv").touch()
    with pytest.raises(OptionError, match="would both become"):
        places(tree, "B.mkv", "B.MP4", suffix=".mkv")


def test_a_result_in_the_place_of_its_source(tree: Path) -> None:
    with pytest.raises(OptionError, match="its result would replace it"):
        places(tree, "a.mkv", out=".")
    (tree.parent / "link").symlink_to(tree)
    with pytest.raises(OptionError, match="its result would replace it"):
        places(tree, "a.mkv", out="../link")
    assert places(tree, "a.mkv", out=".", suffix=".mp4") == {"a.mkv": "a.mp4"}


def test_a_folder_that_is_not_there_is_told(tree: Path) -> None:
    (found,) = find_sources(["missing"], "out")
    assert found.source == str(tree / "missing")  # fails when it is read, as any file does


def test_links(tree: Path) -> None:
    """To files they are followed; to folders not, for they may lead in circles."""
    (tree / "in" / "up").symlink_to(tree)
    (tree / "in" / "link.mkv").symlink_to(tree / "a.mkv")
    (tree / "in" / "round.mkv").symlink_to("round.mkv")
    found = places(tree, "in", recursive=True)
    assert found.keys() == {f"in/{n}" for n in ("-d.ts", "c.mov", "deep/a.mkv", "link.mkv", "round.mkv")}


def test_paths_are_absolute_and_ids_are_of_the_place(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (before,) = find_sources(["a.mkv"], "out")
    monkeypatch.chdir(tree / "in")
    (after,) = find_sources(["../a.mkv"], "out")
    assert before == after
    assert before.source == str(tree / "a.mkv")
    assert before.id == after.id != find_sources(["../a.mkv"], "out", suffix=".mp4")[0].id


@given(
    names=st.lists(st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1), max_size=6)
)
@settings(max_examples=40, deadline=None)
def test_any_name_is_found_and_kept(names: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("names")
    files = {name[:40] + ".mkv" for name in names}
    for name in files:
        (folder / name).touch()
    found = find_sources([str(folder)], str(folder / "out"))
    shown = {name for name in files if not name.startswith(".")}
    assert {f.relative for f in found} == shown
    assert all(f.source == str(folder / f.relative) for f in found)
    assert len({f.id for f in found}) == len(shown)
    for name in files:
        assert shown_name(name).isprintable()


def test_a_stamp_changes_with_the_file(tree: Path) -> None:
    path = tree / "a.mkv"
    before = stamp_of(str(path))
    told = path.stat()
    path.write_bytes(b"1")
    path.write_bytes(b"")
    os.utime(path, ns=(told.st_atime_ns, told.st_mtime_ns))  # as a program that copies files may do
    assert stamp_of(str(path)) != before
    assert stamp_of(str(tree / "missing")) is None


def test_a_file_is_whole_when_it_opens(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "a.mp4", codec="libx264", frames=12)
    assert is_whole(str(whole))
    (tmp_path / "b.mp4").write_bytes(whole.read_bytes()[:-200])  # what tells where frames are is at the end
    assert not is_whole(str(tmp_path / "b.mp4"))
    assert not is_whole(str(tmp_path / "missing.mp4"))


# Settings


def test_every_setting_is_an_option_of_restore_and_the_other_way_round(said: Told) -> None:
    """So that whatever `restore` takes of how a film is restored, `batch` and gpenvideo.toml take too."""
    options = set(re.findall(r"--([a-z][a-z-]+)", said("restore", "--help").out))
    own = {"output", "aligned", "tracks-in", "tracks-out", "compare", "preview", "metrics", "report"}
    own |= {"report-frames", "json", "help", "resumable", "no-gates", "no-temporal", "no-guard"}
    own |= {"no-match-sharpness"}
    assert options - own == set(SETTINGS)
    batch = set(re.findall(r"--([a-z][a-z-]+)", said("batch", "--help").out))
    assert set(SETTINGS) <= batch


def test_defaults_are_those_of_restore() -> None:
    assert work_of("a.mkv", {}) == Work("a.mkv")
    assert work_of("a.mkv", dict.fromkeys(SETTINGS)) == Work("a.mkv")
    work = work_of("a.mkv", {"strength": 0.5, "min-face": 20, "start": "1:00", "rate": "24000/1001"}, ".mp4")
    assert work.options == RestoreOptions(strength=0.5, min_face_px=20)
    assert (work.decoding.start, work.container) == (60, ".mp4")


def test_settings_of_folders(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (tmp_path / "gpenvideo.toml").write_text("strength = 0.1\nmin_face = 10")
    (tmp_path / "a" / "gpenvideo.toml").write_text('strength = 0.2\nstart = 5\nreference = "who.png"')
    (deep / "gpenvideo.toml").write_text('weights = "net.pth"\nend = "1:00"')
    expected = {"strength": 0.2, "start": "5", "reference": [str(tmp_path / "a" / "who.png")]}
    assert folder_settings(tmp_path / "a", tmp_path / "a") == expected
    assert folder_settings(deep, tmp_path) == expected | {"min-face": 10, "weights": "net.pth", "end": "1:00"}
    (deep / "net.pth").touch()  # now it is a path, and no name
    assert folder_settings(deep, deep) == {"weights": str(deep / "net.pth"), "end": "1:00"}
    assert folder_settings(tmp_path, tmp_path / "elsewhere") == {"strength": 0.1, "min-face": 10}


def test_settings_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "gpenvideo.toml").mkdir()
    with pytest.raises(FileError, match=r"gpenvideo\.toml: cannot read it"):
        folder_settings(tmp_path, tmp_path)


VALUES = st.one_of(
    *(st.booleans(), st.integers(-3, 2000), st.floats(allow_nan=False), st.text(max_size=6)),
    st.lists(st.text(max_size=3)),
)


@given(values=st.dictionaries(st.sampled_from(sorted(SETTINGS)) | st.text(max_size=8), VALUES, max_size=4))
@settings(max_examples=150, deadline=None)
def test_any_settings_are_taken_or_refused_in_a_line(
    values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("toml")
    text = "\n".join(f"{json.dumps(name)} = {json.dumps(value)}" for name, value in values.items())
    (folder / "gpenvideo.toml").write_text(text)
    refused = None
    try:
        found = folder_settings(folder, folder)
    except OptionError as error:
        refused = error
    if refused:
        assert "\n" not in refused.message
        assert str(folder / "gpenvideo.toml") in str(refused)
    else:
        assert found.keys() == {name.replace("_", "-") for name in values}
        work_of("a.mkv", found)


# The command line


def test_an_address_of_a_cluster_is_no_film() -> None:
    assert all(map(ADDRESS.fullmatch, ("auto", "local", "ray://head:10001", "10.0.0.1:6379", "head:6379")))
    assert not any(map(ADDRESS.fullmatch, ("films", "a.mkv", "--out", "/films/a:1", "s3://bucket/films")))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.96, "10.0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (3599, "59 min 59 s"),
     (7380, "2 h 3 min"), (90000, "1 d 1 h")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
