"""An S3 server for tests: moto's as a process, or the one that `TAMIS_TEST_S3_ENDPOINT` names (with AWS_* keys)."""

import os
import socket
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager, suppress

KEYS = {"AWS_ACCESS_KEY_ID": "tamis", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


@contextmanager
def object_store(set_variable):
    """Yield a function that makes a bucket and returns its URL; `set_variable` changes `os.environ`."""
    if given := os.environ.get("TAMIS_TEST_S3_ENDPOINT"):
        set_variable("AWS_ENDPOINT_URL", given)
        _forget_servers()
        yield _new_bucket
        return
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(port)
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}.items():
            set_variable(name, value)
        _forget_servers()
        yield _new_bucket
    finally:
        server.terminate()
        server.wait()


def _forget_servers():
    """Let nobody in this process speak to the server of earlier tests."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()


def _wait(port):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise TimeoutError("the S3 server does not answer")


def _new_bucket():
    import s3fs

    name = f"tamis-{uuid.uuid4().hex[:12]}"
    s3fs.S3FileSystem(use_listings_cache=False).mkdir(name)
    return f"s3://{name}"
