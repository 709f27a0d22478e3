"""Materials: what they set, and that what a person says wins, on the command line and in gpenvideo.toml."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from films import assert_same
from hypothesis import given
from hypothesis import strategies as st
from portraits import portrait_clip

from gpenvideo.batch.settings import SETTINGS, folder_settings, work_of
from gpenvideo.errors import OptionError
from gpenvideo.presets import MATERIALS, material_of, with_material
from gpenvideo.video.filters import available

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return portrait_clip(tmp_path / "old.mkv", size=(160, 120), frames=8)


@pytest.mark.parametrize("name", MATERIALS)
def test_what_a_material_sets_is_there(name: str) -> None:
    options = MATERIALS[name].options
    work = work_of("old.mkv", {"material": name})
    for option, value in options.items():
        setting = SETTINGS[option]
        group = getattr(work, setting.group)
        assert getattr(group, setting.field) == value, option
    for filter_ in re.findall(r"(?:^|[,;\]])\s*(\w+)", str(options.get("prefilter", ""))):
        assert available(filter_), filter_
    assert "prefilter-output" not in options  # nobody asked for another picture
    with pytest.raises(TypeError):
        options["strength"] = 0.0  # type: ignore[index]


@given(st.sampled_from([None, *MATERIALS]), st.dictionaries(st.sampled_from(list(SETTINGS)), st.integers()))
def test_what_is_said_wins(name: str | None, said: dict[str, Any]) -> None:
    chosen = with_material(name, said)
    assert {option: chosen[option] for option in said} == said
    rest = {option: value for option, value in chosen.items() if option not in said}
    assert rest.items() <= (MATERIALS[name].options if name else {}).items()


def test_a_wrong_name_is_one_line_with_a_hint(said: Callable[..., Any], clip: Path) -> None:
    with pytest.raises(OptionError, match="did you mean film-8mm"):
        material_of("film-8m")
    done = said("restore", clip, "-o", clip.with_name("x.mkv"), "--material", "betamax")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "there is no material 'betamax'" in done.err
    assert "vhs" in done.err


@pytest.mark.parametrize("name", MATERIALS)
def test_restore_takes_it_and_says_so(
    said: Callable[..., Any], clip: Path, tmp_path: Path, name: str
) -> None:
    report = tmp_path / "run.json"
    done = said("restore", clip, "-o", tmp_path / "x.mkv", "--material", name, "--report", report)
    assert done.code == 0, done.err
    assert done.err.startswith(MATERIALS[name].told())
    assert _written(report) == _wanted(name, {})


@pytest.mark.parametrize("name", MATERIALS)
def test_restore_lets_the_person_win(said: Callable[..., Any], clip: Path, tmp_path: Path, name: str) -> None:
    """Also where what is said is the program's own default."""
    report = tmp_path / "run.json"
    command = ["restore", clip, "-o", tmp_path / "x.mkv", "--report", report]
    words = {"strength": "1.0", "grain": "match", "deinterlace": "auto"}
    done = said(
        *command, "--material", name, *(w for option in words for w in (f"--{option}", words[option]))
    )
    assert done.code == 0, done.err
    assert _written(report) == _wanted(name, {"strength": 1.0, "grain": "match", "deinterlace": "auto"})
    first_line = done.err.splitlines()[0]
    assert not any(option in first_line for option in words)


def _written(report: Path) -> dict[str, Any]:
    options = json.loads(report.read_text())["options"]
    groups = {"options": "restore", "decoding": "decode"}
    taken = ["strength", "grain", "color", "match-sharpness", "detect-size", "deinterlace", "prefilter"]
    return {name: options[groups[SETTINGS[name].group]][SETTINGS[name].field] for name in taken}


def _wanted(name: str, over: dict[str, Any]) -> dict[str, Any]:
    work = work_of("", with_material(name, over))
    groups = {"options": work.options, "decoding": work.decoding}
    taken = ["strength", "grain", "color", "match-sharpness", "detect-size", "deinterlace", "prefilter"]
    return {name: getattr(groups[SETTINGS[name].group], SETTINGS[name].field) for name in taken}


def test_pictures_have_no_material(said: Callable[..., Any], tmp_path: Path) -> None:
    done = said("restore", tmp_path / "a.png", "--material", "vhs")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "materials are of videos" in done.err


def test_folders_name_their_material(tmp_path: Path) -> None:
    (tmp_path / "reels").mkdir()
    (tmp_path / "gpenvideo.toml").write_text('material = "vhs"\nstrength = 0.4\n')
    (tmp_path / "reels" / "gpenvideo.toml").write_text('material = "film-8mm"\n')
    settings = folder_settings(tmp_path / "reels", tmp_path)
    work = work_of("old.mkv", settings)
    assert work.options == work_of("old.mkv", {"material": "film-8mm", "strength": 0.4}).options
    assert work.options.strength == 0.4
    assert work_of("old.mkv", settings | {"strength": 0.9}).options.strength == 0.9  # the command line's
    (tmp_path / "gpenvideo.toml").write_text('material = "nitrate"\n')
    with pytest.raises(OptionError, match=r"gpenvideo\.toml: there is no material 'nitrate'"):
        folder_settings(tmp_path, tmp_path)


def test_batch_takes_it(
    said: Callable[..., Any], clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    common = ["batch", clip, "--workers", "0", "--codec", "ffv1", "--material", "film-8mm"]
    done = said(*common, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert done.err.startswith("film-8mm: ")
    plain = said("restore", clip, "-o", tmp_path / "x.mkv", "--codec", "ffv1", "--material", "film-8mm")
    assert plain.code == 0, plain.err
    assert_same(tmp_path / "x.mkv", tmp_path / "out" / "old.mkv")


def test_the_list_says_what_each_sets(said: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [json.loads(line) for line in said("materials", "--json").out.splitlines()]
    assert {line["name"]: line["options"] for line in lines} == {
        name: dict(material.options) for name, material in MATERIALS.items()
    }
    assert all(name in said("materials").out for name in MATERIALS)
