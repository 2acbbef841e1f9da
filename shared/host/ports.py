"""Ports on the loopback interface: the wanted one where it is free, the next free one otherwise."""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

LOOPBACK = "127.0.0.1"
ANYWHERE = ""
"""As a host: the port is free only if nobody listens on it at any address of the machine."""
TRIES_MAX = 200
BACKLOG = 1024


@contextmanager
def choosing() -> Iterator[None]:
    """Hold off this user's other stacks between the choice of free ports and their use."""
    path = Path(tempfile.gettempdir()) / f"dcoder-ports-{os.getuid()}.lock"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def listen(port: int) -> socket.socket:
    """A listening socket for a child to inherit: while the child restarts, its callers wait instead of failing."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((LOOPBACK, port))
    listener.listen(BACKLOG)
    return listener


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def free_port(wanted: int = 0, *, taken: Iterable[int] = (), host: str = LOOPBACK) -> int:
    """`wanted` or the next free port above it; with 0 any free port. `taken` are promised to others already."""
    promised = set(taken)
    if wanted == 0:
        return any_free_port(promised, host)
    for port in range(wanted, min(wanted + TRIES_MAX, 65536)):
        if port not in promised and is_free(port, host):
            return port
    return any_free_port(promised, host)


def any_free_port(promised: set[int], host: str) -> int:
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind((host, 0))
            port = int(probe.getsockname()[1])
        if port not in promised:
            return port
