"""The peers, each in an environment of its own that its lock file describes, made once under the user's cache."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

LOCKS = Path(__file__).parent / "locks"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "dcoder" / "bench"
MASTER_KEY = "sk-benchmark-0123456789abcdef0123456789abcdef"


class Missing(Exception):
    """A peer cannot run here, and why."""


def made(name: str, lock: Path, make: Callable[[Path], None]) -> Path:
    """The environment of that lock file and of the Python that runs here, made if it is not there. Raises `Missing`."""
    told = lock.read_bytes() + sys.base_prefix.encode() + sys.version.encode()
    folder = CACHE / f"{name}-{hashlib.sha256(told).hexdigest()[:16]}"
    if folder.exists():
        return folder
    half = folder.with_suffix(f".{os.getpid()}")
    try:
        half.mkdir(parents=True)
        make(half)
    except (OSError, subprocess.CalledProcessError) as failure:
        shutil.rmtree(half, ignore_errors=True)
        raise Missing(f"its environment cannot be made: {failure}") from failure
    half.rename(folder)
    return folder


def run(*command: str, cwd: Path | None = None) -> None:
    subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def python_of(name: str, lock: Path) -> Path:
    """The interpreter of an environment that has what the lock file names. Raises `Missing`."""

    def make(folder: Path) -> None:
        venv.create(folder, with_pip=True)
        run(str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(lock))

    if sys.version_info[:2] != (3, 11):
        raise Missing("its lock is for Python 3.11")
    return made(name, lock, make) / "bin" / "python"


def litellm() -> Path:
    """The interpreter that has LiteLLM's proxy."""
    return python_of("litellm", LOCKS / "litellm.lock")


def litellm_config(folder: Path, base_url: str, redis_url: str) -> Path:
    """One deployment for each model, Redis for its router and limits, no cache of answers, no retries."""
    host, _, port = redis_url.removeprefix("redis://").partition("/")[0].rpartition(":")
    parameters = {"api_base": base_url, "api_key": "sk-none"}
    config = {
        "model_list": [
            {"model_name": name, "litellm_params": {"model": f"openai/{name}", **parameters}}
            for name in ("instant", "slow")
        ],
        "general_settings": {"master_key": MASTER_KEY},
        "litellm_settings": {"num_retries": 0, "telemetry": False},
        "router_settings": {"redis_host": host.rpartition("@")[2], "redis_port": int(port), "num_retries": 0},
    }
    path = folder / "litellm.json"  # YAML takes JSON
    path.write_text(json.dumps(config), encoding="utf-8")
    return path


def portkey() -> Path:
    """Portkey's built server."""
    lock = LOCKS / "portkey" / "package-lock.json"
    npm = shutil.which("npm")
    if npm is None:
        raise Missing("npm is not installed")

    def make(folder: Path) -> None:
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(LOCKS / "portkey" / name, folder)
        run(npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=folder)

    return made("portkey", lock, make) / "node_modules/@portkey-ai/gateway/build/start-server.js"


def nginx() -> Path:
    """nginx as installed."""
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        raise Missing("nginx is not installed (Debian: apt install nginx-light)")
    return Path(found)


def nginx_config(folder: Path, port: int, base_url: str) -> Path:
    """One worker that passes all on over kept connections."""
    origin = base_url.removeprefix("http://").partition("/")[0]
    path = folder / "nginx.conf"
    path.write_text(
        f"""
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream provider {{ server {origin}; keepalive 512; }}
  server {{
    listen 127.0.0.1:{port} backlog=2048;
    keepalive_requests 1000000;
    location / {{
      proxy_pass http://provider; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
""",
        encoding="utf-8",
    )
    return path
