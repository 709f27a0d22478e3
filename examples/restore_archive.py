"""Restore an archive from Python: all films of a folder, two at a time, and say what became of them.

python examples/restore_archive.py films restored
"""

import sys

from gpenvideo.batch.driver import BatchOptions
from gpenvideo.batch.film import Film
from gpenvideo.batch.local import Processes
from gpenvideo.batch.run import run_batch


def show(film: Film) -> None:
    print(f"{film.state}: {film.target}" + (f" ({film.reason})" if film.reason else ""))


def main(films: str, restored: str) -> None:
    summary = run_batch(
        [films],
        restored,
        recursive=True,
        settings={"strength": 0.9, "detect-size": 320},
        options=BatchOptions(segment_s=30, verify=True),
        executor=Processes(workers=2),
        finished=show,
    )
    print(f"{len(summary.films)} films in {summary.seconds:.0f} s: {summary.states}; see {summary.report}")
    sys.exit(1 if summary.failed else 0)


if __name__ == "__main__":  # the workers are processes that import this file
    main(*sys.argv[1:3])
