"""S3 servers for tests, driven by the real s3fs: moto's in this process, or another one that runs already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import fsspec
import pytest


@contextmanager
def server(bucket: str = "lake") -> Iterator[str]:
    """Start moto's server with one bucket, and point the S3 libraries to it; its address."""
    from moto.server import ThreadedMotoServer

    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    moto.start()
    address = "http://{}:{}".format(*moto.get_host_and_port())
    try:
        with pointed_to(address):
            # moto keeps its buckets between servers.
            fsspec.filesystem("s3", skip_instance_cache=True).makedirs(bucket, exist_ok=True)
            yield address
    finally:
        moto.stop()


@contextmanager
def pointed_to(address: str, user: str = "test", password: str = "test", session: str | None = None) -> Iterator[None]:
    """Point the S3 libraries of this process and its children to a server for the block.

    Args:
        address: http://host:port.
        user: the access key.
        password: the secret key.
        session: the token of temporary credentials.
    """
    values = {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": user,
        "AWS_SECRET_ACCESS_KEY": password,
        "AWS_DEFAULT_REGION": "us-east-1",
    } | ({} if session is None else {"AWS_SESSION_TOKEN": session})
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, value)
        filesystem = fsspec.get_filesystem_class("s3")
        filesystem.clear_instance_cache()
        try:
            yield
        finally:
            filesystem.clear_instance_cache()
