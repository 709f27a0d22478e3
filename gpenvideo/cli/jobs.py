"""`gpenvideo jobs`: what became of the files of a batch, and what is to become of them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpenvideo.cli.console import Json, out, say
from gpenvideo.errors import OptionError

if TYPE_CHECKING:
    from gpenvideo.batch.store import Job, Store

__all__ = ["app"]

app = typer.Typer(help="The files of a batch: what became of them, and what is to become of them.")

Out = Annotated[str, typer.Option("--out", "-o", help="The folder or URL of their results.")]
ID_HELP = "As `jobs list` shows them, or their beginnings."
State = Annotated[str | None, typer.Option(help="queued, running, done, failed or cancelled.")]


@app.command("list")
def jobs_list(out_: Out, state: State = None, as_json: Json = False) -> None:
    """Every file, and how far it is."""
    from rich.table import Table
    from rich.text import Text

    from gpenvideo.batch.store import STATES
    from gpenvideo.cli.overview import duration, shown_name

    if state is not None and state not in STATES:
        raise OptionError(f"a state is {', '.join(STATES)}, not {state!r}")
    with _store(out_, writing=False) as store:
        jobs = store.jobs(state)
    if as_json:
        for job in jobs:
            say(json.dumps(asdict(job)))
        return
    table = Table("job", "state", "source", "frames", "faces", "took", "reason")
    for job in jobs:
        took = duration(job.seconds) if job.seconds else ""
        numbers = [str(number or "") for number in (job.frames, job.faces)]
        cells = (job.id, job.state, shown_name(job.source), *numbers, took, shown_name(job.reason or ""))
        table.add_row(*map(Text, cells))
    out.print(table)


@app.command("show")
def jobs_show(id: Annotated[str, typer.Argument(metavar="ID")], out_: Out) -> None:
    """All that is known of a file, as JSON."""
    with _store(out_, writing=False) as store:
        job = _found(store, id)
        parts = {"begun": store.parts_begun(job.id), "done": list(store.parts_done(job.id))}
    say(json.dumps(asdict(job) | {"segments": parts}, indent=2))


@app.command("retry")
def jobs_retry(
    out_: Out,
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID...", help=ID_HELP)] = None,
    failed: Annotated[bool, typer.Option("--failed", help="All that failed.")] = False,
) -> None:
    """Let the next `gpenvideo batch` try files again that failed, were cancelled, or are done."""
    with _store(out_) as store:
        jobs = [_found(store, id) for id in ids or ()] + (store.jobs("failed") if failed else [])
        if not jobs and not failed:
            raise OptionError("name the jobs to try again, or all that failed with --failed")
        for job in jobs:
            store.set_state(job.id, "queued", attempts=0)
    say(f"{len(jobs)} to be tried again by the next `gpenvideo batch`")


@app.command("cancel")
def jobs_cancel(out_: Out, ids: Annotated[list[str], typer.Argument(metavar="ID...", help=ID_HELP)]) -> None:
    """Leave files out of every further `gpenvideo batch`, until they are to be retried."""
    with _store(out_) as store:
        jobs = [_found(store, id) for id in ids]
        for job in jobs:
            if job.state == "done":
                raise OptionError(f"job {job.id} is done")
        for job in jobs:
            store.set_state(job.id, "cancelled", "cancelled by hand")
    say(f"{len(jobs)} cancelled")


@app.command("export")
def jobs_export(
    out_: Out,
    file: Annotated[Path | None, typer.Argument(help="A .jsonl file; default: standard output.")] = None,
) -> None:
    """Everything that is known of all files, as a line of JSON each."""
    with _store(out_, writing=False) as store:
        if file is None:
            for job in store.jobs():
                say(json.dumps(asdict(job)))
            return
        from gpenvideo.batch.run import export_jobs

        say(f"{file}: {export_jobs(store, file)} jobs")


def _store(output: str, writing: bool = True) -> Store:
    from gpenvideo.batch.storage import as_place
    from gpenvideo.batch.store import Store, store_path

    place = as_place(output)
    if not store_path(place).exists():
        raise OptionError(f"no batch was ever run with --out {output!r} on this machine")
    return Store.open(place, writing=writing)


def _found(store: Store, id: str) -> Job:
    """The job of an id, or of its beginning."""
    jobs = [job for job in store.jobs() if job.id.startswith(id)]
    exact = [job for job in jobs if job.id == id]
    if len(exact or jobs) != 1:
        problem = "there is no job" if not jobs else f"{len(jobs)} jobs begin with"
        raise OptionError(f"{problem} {id!r}: see `gpenvideo jobs list`")
    return (exact or jobs)[0]
