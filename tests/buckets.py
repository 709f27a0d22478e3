"""Stores of objects for tests: a bucket of a server on this machine, and a slow one."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gpenvideo.batch.staging import Staged


@contextmanager
def bucket_of(name: str) -> Iterator[str]:
    """The URL of an empty bucket; processes that are started meanwhile can use it too."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
            patch.setenv("AWS_ACCESS_KEY_ID", "nobody")
            patch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
            patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            import fsspec

            fsspec.filesystem("s3", skip_instance_cache=True).mkdir(name)
            fsspec.filesystem("s3").clear_instance_cache()
            yield f"s3://{name}"
            fsspec.filesystem("s3").clear_instance_cache()
    finally:
        server.stop()


def fetch_slowly(url: str, root: Path, barrier: Any, inodes: Any) -> None:
    """A process that fetches when others do, from a store that takes its time, and tells the file's inode."""
    from fsspec.implementations.memory import MemoryFileSystem

    def slowly(self: Any, path: str, file: str, **more: Any) -> None:
        time.sleep(0.3)
        Path(file).write_bytes(b"film")

    MemoryFileSystem.get_file = slowly
    MemoryFileSystem.ukey = lambda self, path: "the same"
    MemoryFileSystem.size = lambda self, path: 4
    with Staged(root=root) as staged:
        barrier.wait(60)
        inodes.put(staged.fetched(url).stat().st_ino)
        barrier.wait(60)
