"""An S3-compatible service on this machine, over plain HTTP on the loopback."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from uuid import uuid4

import boto3
from moto.server import ThreadedMotoServer

_KEY = {"aws_access_key_id": "tester", "aws_secret_access_key": "secret"}


class Service:
    """Where it is, and what a coordinator is told of it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.settings: dict[str, Any] = {"endpoint": url, "region": "us-east-1", "allow_http": True}

    def _client(self) -> Any:
        return closing(boto3.client("s3", endpoint_url=self.url, region_name="us-east-1", **_KEY))

    def bucket(self) -> str:
        """A new bucket, as the URL of a blob store."""
        name = f"results-{uuid4().hex[:12]}"
        with self._client() as client:
            client.create_bucket(Bucket=name)
        return f"s3://{name}/of/pithead"

    def objects(self, url: str) -> dict[str, bytes]:
        """All that lies in the bucket, by name."""
        bucket = url.split("/")[2]
        with self._client() as client:
            listed = client.list_objects_v2(Bucket=bucket).get("Contents", ())
            return {one["Key"]: client.get_object(Bucket=bucket, Key=one["Key"])["Body"].read() for one in listed}

    def under_way(self, url: str) -> int:
        """How many multipart uploads have begun and not ended: what they hold is paid for."""
        with self._client() as client:
            return len(client.list_multipart_uploads(Bucket=url.split("/")[2]).get("Uploads", ()))


@contextmanager
def serve_s3() -> Iterator[Service]:
    """Run the service; this process's environment has its credentials meanwhile."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    given = {name.upper(): value for name, value in _KEY.items()}
    before = {name: os.environ.get(name) for name in given}
    os.environ |= given
    try:
        host, port = server.get_host_and_port()
        yield Service(f"http://{host}:{port}")
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        server.stop()
