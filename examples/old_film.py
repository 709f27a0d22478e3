"""Restore an old film from Python: say what it is, keep its grain and tint, lose nothing in the master.

python examples/old_film.py old.mkv master.mkv [film-8mm]
"""

import sys

import gpenvideo
from gpenvideo.batch.settings import work_of
from gpenvideo.presets import with_material


def main(source: str, target: str, material: str = "film-16mm") -> None:
    options = with_material(material, {"strength": 0.9, "codec": "ffv1"})  # what is said here wins
    work = work_of(source, options)
    report = gpenvideo.restore_video(
        source,
        target,
        options=work.options,
        decoding=work.decoding,
        encoding=work.encoding,
        report=f"{target}.json",  # for the film's papers: every option, version and warning
    )
    print(f"{material}: {options}")
    print(f"{report.faces} faces of {len(report.tracks)} tracks in {report.written} pictures")
    for warning in report.warnings:
        print(f"note: {warning}")


if __name__ == "__main__":
    main(*sys.argv[1:4])
