"""Files that only their owner may read, whole or not there at all."""

from __future__ import annotations

import os
from pathlib import Path


def private_directory(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.chmod(0o700)
    return path


def write_private(path: Path, text: str) -> Path:
    """Replace a file whole, readable by its owner only from the first byte."""
    return write_private_bytes(path, text.encode())


def write_private_bytes(path: Path, content: bytes) -> Path:
    """See `write_private`."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as target:
        target.write(content)
    fresh.replace(path)
    return path


def tail(log: Path, *, bytes_max: int = 2000) -> str:
    """The last lines of a log, or nothing."""
    if not log.exists():
        return ""
    with log.open("rb") as source:
        source.seek(max(0, log.stat().st_size - bytes_max))
        return source.read().decode(errors="replace").strip()
