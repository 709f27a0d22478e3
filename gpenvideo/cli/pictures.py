"""Restoring pictures from the command line: one, or a folder of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gpenvideo.cli.console import described, err, out, print_json
from gpenvideo.errors import FaceError, FileMissing, GpenvideoError, OptionError

__all__ = ["each_picture", "picture_pairs", "restore_pictures"]


def picture_pairs(source: Path, output: Path) -> list[tuple[Path, Path]]:
    """Each picture and where its restored one goes."""
    from gpenvideo.picture import SUFFIXES

    if source.is_dir():
        if output.is_file():
            raise OptionError("it is a file; name a folder for the restored pictures", path=output)
        files = sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not files:
            raise FileMissing(f"no pictures in it ({', '.join(SUFFIXES)})", path=source)
        if output.resolve() == source.resolve():
            raise OptionError(
                "the restored pictures would replace their sources; name another folder", path=output
            )
        return [(file, output / file.relative_to(source)) for file in files]
    if not source.exists():
        raise FileMissing("no such file or folder", path=source)
    if output.is_dir():
        output = output / source.name
    if output.exists() and output.resolve() == source.resolve():
        raise OptionError("the restored picture would replace its source; name another file", path=output)
    return [(source, output)]


def restore_pictures(
    pairs: Sequence[tuple[Path, Path]],
    weights: str | None,
    detector: str | None,
    networks: dict[str, Any],
    *,
    aligned: bool,
    strength: float,
    upscale: int = 1,
    background: str | None = None,
    as_json: bool,
) -> None:
    """Restore each picture; see `each_picture`."""
    from gpenvideo.networks import NetworkOptions, load, load_detector, load_upscaler
    from gpenvideo.still import restore_picture

    compile = networks["compile"]
    finder = None if aligned else load_detector(detector, device=networks["device"])
    upscaler = load_upscaler(upscale, background, NetworkOptions(**networks))
    restorer = load(weights, **networks, max_batch=1 if compile else 8)
    if not as_json:
        err.print(described(restorer), markup=False, highlight=False)
    if compile:
        with err.status("compiling the network"):
            restorer.warm_up()

    def restored(picture: Path, target: Path) -> dict[str, Any]:
        faces = restore_picture(
            picture,
            target,
            restorer,
            aligned=aligned,
            detector=finder,
            strength=strength,
            upscaler=upscaler,
        )
        return {"faces": faces}

    each_picture(pairs, restored, as_json=as_json)


def each_picture(
    pairs: Sequence[tuple[Path, Path]], make: Callable[[Path, Path], dict[str, Any]], *, as_json: bool
) -> None:
    """Make each picture's result, with a line for each; one of several that fails does not stop the others.

    Args:
        make: takes a picture and where its result goes, and gives what is told of it.

    Raises FaceError at the end when some failed.
    """
    failures = 0
    for picture, target in _shown(pairs, quiet=as_json):
        start = time.perf_counter()
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            facts = make(picture, target)
        except GpenvideoError as error:
            if len(pairs) == 1:
                raise
            failures += 1
            if as_json:
                print_json({"input": str(picture), "error": str(error)})
            else:
                err.print(f"gpenvideo: {error}", style="red", markup=False, highlight=False)
            continue
        seconds = round(time.perf_counter() - start, 3)
        if as_json:
            print_json({"input": str(picture), "output": str(target), **facts, "seconds": seconds})
            continue
        told = [f"{number} {what[:-1] if number == 1 else what}" for what, number in facts.items()]
        out.print(f"{target}: {', '.join([*told, f'{seconds:.2f} s'])}", highlight=False)
    if failures:
        raise FaceError(f"{failures} of {len(pairs)} pictures could not be restored")


def _shown(pairs: Sequence[tuple[Path, Path]], *, quiet: bool) -> Sequence[tuple[Path, Path]]:
    """The pairs, with a progress bar on a terminal where there are several."""
    if quiet or len(pairs) < 2 or not err.is_terminal:
        return pairs
    from rich.progress import track

    return track(pairs, "restoring", console=err)  # type: ignore[return-value]
