"""A MinIO server, built from its Go module: there are no binaries of it any more, and the project is archived."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.fixtures.ports import free_port

MODULE = "github.com/minio/minio@latest"
BUILD_S_MAX = 1200
START_S_MAX = 30.0


@dataclass(frozen=True)
class Minio:
    url: str
    access_key: str
    secret_key: str


def binary() -> Path:
    """The server's program, built into the user's cache at first need (about four minutes)."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dcoder" / "minio"
    program = cache / "minio"
    if not program.exists():
        if shutil.which("go") is None:
            raise RuntimeError(
                f"MinIO is built from source and there is no Go toolchain: install Go 1.24 or put {program}"
            )
        cache.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "GOBIN": str(cache), "CGO_ENABLED": "0"}
        subprocess.run(["go", "install", MODULE], env=environment, check=True, timeout=BUILD_S_MAX)
    return program


@contextmanager
def minio_server(hook_url: str, hook_token: str) -> Iterator[Minio]:
    """A server on loopback that posts its notifications to `hook_url`."""
    port = free_port()
    access_key, secret_key = secrets.token_hex(8), secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="dcoder-minio-", ignore_cleanup_errors=True) as folder:
        environment = {
            **os.environ,
            "HOME": folder,
            "MINIO_ROOT_USER": access_key,
            "MINIO_ROOT_PASSWORD": secret_key,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
            "MINIO_NOTIFY_WEBHOOK_ENABLE_DCODER": "on",
            "MINIO_NOTIFY_WEBHOOK_ENDPOINT_DCODER": hook_url,
            "MINIO_NOTIFY_WEBHOOK_AUTH_TOKEN_DCODER": f"Bearer {hook_token}",
        }
        argv = [str(binary()), "server", f"{folder}/data", "--address", f"127.0.0.1:{port}", "--quiet"]
        with Path(folder, "log").open("wb") as log:
            process = subprocess.Popen(argv, env=environment, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until_healthy(url, process, Path(folder, "log"))
            yield Minio(url, access_key, secret_key)
        finally:
            process.terminate()
            process.wait(timeout=20)


def wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S_MAX
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/minio/health/ready", timeout=1) as answer:  # noqa: S310  loopback
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"MinIO did not start: {log.read_text()[-2000:]}")
