"""The house itself: what imports what, what is public, how long the first import takes."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import gpenvideo

PACKAGE = Path(gpenvideo.__file__).parent
HEAVY = ("torch", "torchvision", "facexlib", "cupy", "av", "cv2", "ray", "scipy", "PIL")

ALLOWED = {  # what each part may import of ours; `errors` and `affine` are open to all
    "__init__": {
        *("errors", "face", "faces", "networks", "picture", "pipeline", "report", "restorer"),
        *("segmented", "still", "tracks", "transcode"),
    },
    "__main__": {"cli"},
    "cli": {
        *("conditional", "foreign", "presets"),
        *("analysis", "batch", "demo", "evaluate", "faces", "gpen", "live", "networks", "picture"),
        *("pipeline", "processor", "report", "restorer", "segmented", "speed", "still", "tracks"),
        *("train", "transcode", "video", "weights"),
    },
    "demo": {
        *("degradation", "face", "faces", "picture", "pipeline", "report", "restorer", "transcode", "video"),
    },
    "batch": {
        "presets",
        *("frame", "networks", "persons", "picture", "pipeline", "place", "report", "restorer", "segmented"),
        *("stages", "stream", "tracks", "transcode", "video", "weights"),
    },
    "live": {
        *("analysis", "face", "faces", "frame", "kernels", "networks", "persons", "picture", "pipeline"),
        *("place", "restorer", "stages", "stream", "video", "weights"),
    },
    "segmented": {
        "upscaling",
        *("analysis", "evaluate", "faces", "frame", "networks", "persons", "pipeline", "place", "report"),
        *("restorer", "stages", "stream", "tracks", "transcode", "video", "weights"),
    },
    "assembly": {
        *("analysis", "faces", "networks", "persons", "pipeline", "restorer", "tracks", "upscaling", "video"),
    },
    "transcode": {
        *("assembly", "upscaling"),
        *("analysis", "compare", "evaluate", "faces", "frame", "networks", "persons", "picture", "pipeline"),
        *("place", "report", "restorer", "stages", "stream", "tracks", "video"),
    },
    "tracks": {"analysis", "face", "faces", "frame", "kernels", "picture", "place", "video"},
    "report": {"frame", "pipeline", "place"},
    "matching": {"frame", "means"},
    "pipeline": {
        "matching",
        *("analysis", "crops", "device", "face", "faces", "frame", "host", "kernels", "persons", "restorer"),
        *("stages", "steady", "upscaling"),
    },
    "foreign": {"faces", "gpen", "processor"},
    "upscaling": {"foreign", "frame", "kernels"},
    "conditional": {"crops", "picture", "restorer", "still"},
    "presets": set(),
    "speed": {"faces", "gpen", "restorer"},
    "host": {"crops", "frame", "kernels", "restorer", "stages", "steady"},
    "device": {"crops", "faces", "frame", "kernels", "restorer", "stages", "steady"},
    "persons": {"analysis", "face", "faces", "frame", "kernels", "picture", "stages"},
    "analysis": {"face", "faces", "frame", "kernels", "stages"},
    "still": {"crops", "face", "faces", "kernels", "networks", "picture", "restorer", "upscaling"},
    "crops": {"face", "faces", "frame", "kernels", "restorer"},
    "networks": {"faces", "foreign", "processor", "restorer", "upscaling", "weights"},
    "compare": {"frame"},
    "video": {"frame"},
    "stages": set(),
    "means": set(),
    "steady": {"means"},
    "stream": set(),
    "frame": set(),
    "picture": set(),
    "place": set(),
    "evaluate": {
        *("analysis", "crops", "degradation", "face", "faces", "frame", "kernels", "picture", "pipeline"),
        *("restorer", "video", "weights"),
    },
    "train": {"gpen", "faces", "kernels", "degradation", "evaluate", "weights"},
    "restorer": {"gpen", "faces", "processor", "weights"},
    "faces": {"face", "weights"},
    "kernels": {"frame"},
    "gpen": set(),
    "degradation": set(),
    "face": set(),
    "weights": set(),
    "affine": set(),
    "processor": set(),
    "errors": set(),
}
ONLY_IN = {  # packages that stay behind one door
    "aiohttp": {"live"},
    "aiortc": {"live"},
    "av": {"live", "video"},
    "fsspec": {"batch"},
    "sqlite3": {"batch"},
    "spandrel": {"foreign"},
    "spandrel_extra_arches": {"foreign"},
    "cupy": {"kernels"},
    "facexlib": {"faces", "evaluate", "train"},
    "ray": {"batch"},
    "typer": {"cli"},
    "rich": {"cli"},
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def part(file: Path) -> str:
    """The top-level part of the package that a file belongs to: "cli", "gpen", ..."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("file", modules(), ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_point_one_way(file: Path) -> None:
    here = part(file)
    assert here in ALLOWED, f"{here} is new: give it a line in the table"
    for name in imports(file):
        root, *rest = name.split(".")
        if root == "gpenvideo" and rest and here != "__main__":
            assert rest[0] in ALLOWED[here] | {here, "errors", "affine"}, f"{here} may not import {name}"
        if root in ONLY_IN:
            assert here in ONLY_IN[root], f"{name} is imported outside {ONLY_IN[root]}"


def test_the_public_names_are_all_there_and_in_order() -> None:
    assert gpenvideo.__all__ == sorted(gpenvideo.__all__, key=str)
    for name in gpenvideo.__all__:
        assert getattr(gpenvideo, name).__doc__, name
    homes = [name for names in gpenvideo._HOMES.values() for name in names]
    assert sorted(homes) == sorted(gpenvideo.__all__)
    assert dir(gpenvideo) == sorted(gpenvideo.__all__)
    with pytest.raises(AttributeError, match="no attribute 'restore_everything'"):
        gpenvideo.restore_everything  # noqa: B018


def test_every_module_says_what_it_exports() -> None:
    for file in modules():
        tree = ast.parse(file.read_text())
        assert ast.get_docstring(tree), f"{file} has no docstring"
        names = [
            t.id for n in tree.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)
        ]
        public = any(
            isinstance(n, (ast.FunctionDef, ast.ClassDef)) and not n.name.startswith("_") for n in tree.body
        )
        assert not public or "__all__" in names, f"{file} has no __all__"


@pytest.mark.parametrize("statement", ["import gpenvideo", "import gpenvideo.errors, gpenvideo.weights"])
def test_the_first_import_is_light(statement: str) -> None:
    program = (
        f"import sys, time\nstart = time.process_time()\n{statement}\n"
        f"spent = time.process_time() - start\n"
        f"print(spent, sorted(set({HEAVY!r}) & set(sys.modules)))\n"
    )
    runs = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        for _ in range(3)
    ]
    spent = min(float(run.stdout.split()[0]) for run in runs)
    assert runs[0].stdout.strip().endswith("[]"), runs[0].stdout
    assert spent < 0.3, f"{statement} takes {spent:.2f} s"


def test_help_needs_no_torch() -> None:
    program = (
        "import sys\nfrom gpenvideo.cli import main\nsys.argv = ['gpenvideo', '--help']\n"
        f"try:\n    main()\nfinally:\n    print(sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0
    assert "restore" in run.stdout
    assert "weights" in run.stdout
    assert run.stderr.strip() == "[]"


def test_modules_and_functions_stay_short() -> None:
    """A function is as long as its body: what it takes and what it promises may need their lines."""
    for file in modules():
        text = file.read_text()
        assert text.count("\n") <= 400, f"{file} has {text.count(chr(10))} lines"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
                lines = (node.end_lineno or 0) - body[0].lineno + 1
                assert lines <= 60, f"{file}: {node.name} has {lines} lines"
