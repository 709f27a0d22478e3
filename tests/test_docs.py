"""Every command and every piece of Python in the documentation runs, or says beside it why it does not.

A block that begins with "```sh" or "```python" is run, in the order of its page, in a folder of small files
with the names that the pages use. One that begins with "```sh no-run: REASON" is only parsed: its options
exist and their values are of the right kind.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from material import write_material
from pages import (
    LANGUAGES,
    PAGES,
    ROOT,
    arguments_of,
    blocks,
    check_options,
    check_python,
    check_toml,
    commands,
    outside,
    run,
)

BLOCKS = [block for page in PAGES for block in blocks(page)]
RUN = [page for page in PAGES if any(block.runs for block in blocks(page))]


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_material(tmp_path_factory.mktemp("material"))


@pytest.fixture
def folder(material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A reader's folder: the current one, with films and pictures by the names of the pages."""
    folder = tmp_path / "here"
    shutil.copytree(material, folder)
    (folder / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("GPENVIDEO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "100")
    return folder


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_what_a_page_shows_runs(page: Path, folder: Path) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.runs:
            run(block, folder, names)


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "sh"], ids=lambda block: block.place)
def test_options_exist(block: Any) -> None:
    for words in commands(block):
        arguments = arguments_of(words)
        if arguments is not None:
            check_options(arguments)


def test_blocks_say_what_they_are() -> None:
    for block in BLOCKS:
        assert block.language in LANGUAGES, f"{block.place}: a block of {block.language!r}"
        if block.note:
            assert re.fullmatch(r"no-run: \w.{8,}", block.note), f"{block.place}: {block.note!r}"
        if block.language == "toml":
            check_toml(block)
        if block.language == "python":
            check_python(block)
    assert sum(block.runs for block in BLOCKS) > sum(bool(block.note) for block in BLOCKS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_stand_in_blocks_and_links_lead_somewhere(page: Path) -> None:
    text = outside(page)
    loose = re.findall(r"^(?: {4}|\t)(?:gpenvideo|pip|python|make) .*$", text, flags=re.MULTILINE)
    assert loose == []
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target} is not there"


def test_the_index_leads_to_every_page() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    missing = [page.name for page in PAGES[1:] if page.name != "index.md" and f"({page.name})" not in index]
    assert missing == []


def test_the_api_page_has_every_public_name() -> None:
    import gpenvideo

    text = (ROOT / "docs" / "api.md").read_text()
    assert [name for name in gpenvideo.__all__ if f"`{name}`" not in text and f"`{name}(" not in text] == []
