"""An S3 server in this process, for tests: moto's, over HTTP, driven by the real s3fs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import fsspec
import pytest


@contextmanager
def server(bucket: str = "lake") -> Iterator[str]:
    """Start it with one bucket, and point the S3 libraries of this process and its children to it; its address."""
    from moto.server import ThreadedMotoServer

    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    moto.start()
    address = "http://{}:{}".format(*moto.get_host_and_port())
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (
            ("AWS_ENDPOINT_URL", address),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
        ):
            patch.setenv(name, value)
        filesystem = fsspec.filesystem("s3", skip_instance_cache=True)
        type(filesystem).clear_instance_cache()
        filesystem.makedirs(bucket, exist_ok=True)  # moto keeps its buckets between servers
        try:
            yield address
        finally:
            type(filesystem).clear_instance_cache()
            moto.stop()
