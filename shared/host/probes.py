"""Whether a server answers in its own protocol. Standard library only, one short connection each."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import struct
from collections.abc import Iterator

from shared.host.ports import LOOPBACK

TIMEOUT_S = 2.0


@contextlib.contextmanager
def connection(port: int, host: str = LOOPBACK) -> Iterator[socket.socket]:
    with socket.create_connection((host, port), timeout=TIMEOUT_S) as opened:
        yield opened


def postgres(port: int, host: str = LOOPBACK) -> bool:
    """Whether PostgreSQL asks for a password: it answers an error instead while it starts or stops."""
    parameters = b"user\0postgres\0database\0postgres\0\0"
    message = struct.pack("!ii", len(parameters) + 8, 196608) + parameters
    try:
        with connection(port, host) as opened:
            opened.sendall(message)
            return opened.recv(1) == b"R"
    except OSError:
        return False


def nats(port: int, token: str, host: str = LOOPBACK) -> bool:
    """Whether NATS accepts our token, answers PING, and has JetStream."""
    try:
        with connection(port, host) as opened, opened.makefile("rb") as lines:
            greeting = lines.readline()
            if not greeting.startswith(b"INFO ") or not json.loads(greeting[5:]).get("jetstream"):
                return False
            hello = json.dumps({"verbose": False, "pedantic": False, "auth_token": token})
            opened.sendall(f"CONNECT {hello}\r\nPING\r\n".encode())
            return lines.readline().startswith(b"PONG")
    except (OSError, ValueError):
        return False


def redis(port: int, password: str, host: str = LOOPBACK) -> bool:
    """Whether the server accepts our password and answers PING; it answers LOADING while it reads its file."""
    try:
        with connection(port, host) as opened, opened.makefile("rb") as lines:
            if password:
                opened.sendall(f"AUTH {password}\r\n".encode())
                if not lines.readline().startswith(b"+OK"):
                    return False
            opened.sendall(b"PING\r\n")
            return lines.readline().startswith(b"+PONG")
    except OSError:
        return False


def seaweed(*, s3_port: int, master_port: int, filer_port: int) -> bool:
    """Whether the gateway and the filer answer and the master has a volume server to place objects on."""
    if http_status(s3_port, "/healthz") != 200 or http_status(filer_port, "/healthz") not in (200, 401, 404):
        return False
    status, body = http_get(master_port, "/dir/status")
    if status != 200:
        return False
    try:
        return int(json.loads(body)["Topology"]["Max"]) > 0
    except (ValueError, KeyError, TypeError):
        return False


def http_status(port: int, path: str, host: str = LOOPBACK) -> int:
    return http_get(port, path, host)[0]


def http_get(port: int, path: str, host: str = LOOPBACK) -> tuple[int, bytes]:
    """Status and the first 64 KiB of the answer; status 0 when there is none."""
    client = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        client.request("GET", path)
        answer = client.getresponse()
        return answer.status, answer.read(65536)
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        client.close()
