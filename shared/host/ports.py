"""Ports on the loopback interface: the wanted one where it is free, the next free one otherwise."""

from __future__ import annotations

import socket
from collections.abc import Iterable

LOOPBACK = "127.0.0.1"
TRIES_MAX = 200


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def free_port(wanted: int = 0, *, taken: Iterable[int] = ()) -> int:
    """`wanted` or the next free port above it; with 0 any free port. `taken` are promised to others already."""
    promised = set(taken)
    if wanted == 0:
        return any_free_port(promised)
    for port in range(wanted, min(wanted + TRIES_MAX, 65536)):
        if port not in promised and is_free(port):
            return port
    return any_free_port(promised)


def any_free_port(promised: set[int]) -> int:
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind((LOOPBACK, 0))
            port = int(probe.getsockname()[1])
        if port not in promised:
            return port
