"""Restore a folder of videos on a Ray cluster, check every result, and tell what became of each.

    python restore_on_ray.py FILMS OUT [HOST:PORT]

FILMS and OUT are folders on a share that all nodes see, or URLs (s3://archive/films). Without an address it
is the cluster of this machine, or one that ends with this process. Run it again to go on where it was.
"""

import sys

from gpenvideo.batch.driver import BatchOptions
from gpenvideo.batch.ray import Cluster
from gpenvideo.batch.run import run_batch

films, out, address = (*sys.argv[1:], None)[:3]
summary = run_batch(
    [films],
    out,
    recursive=True,
    executor=Cluster(address),
    options=BatchOptions(segment_s=60, verify=True),
    finished=lambda film: print(f"{film.work.source}: {film.state} {film.reason or ''}".rstrip()),
)
for film in summary.films:
    if film.state == "done":
        print(f"{film.target}: {film.frames} frames, {film.faces} faces in {len(film.parts)} segments")
sys.exit(1 if summary.failed else 0)
