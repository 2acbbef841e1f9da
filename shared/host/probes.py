"""Whether a server answers in its own protocol. Standard library only, one short connection each."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import json
import socket
import struct
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from shared.host.ports import LOOPBACK

TIMEOUT_S = 2.0
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


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


def seaweed(*, host: str, s3_port: int, master_port: int, access_key: str, secret_key: str) -> bool:
    """Whether the gateway accepts our credentials and the master has a volume server to place objects on."""
    signed = signed_headers(s3_port, access_key, secret_key, host=host)
    if http_get(s3_port, "/", host, headers=signed)[0] != 200:
        return False
    status, body = http_get(master_port, "/dir/status", host)
    if status != 200:
        return False
    try:
        return int(json.loads(body)["Topology"]["Max"]) > 0
    except (ValueError, KeyError, TypeError):
        return False


def signed_headers(
    port: int, access_key: str, secret_key: str, at: datetime | None = None, *, host: str = LOOPBACK
) -> dict[str, str]:
    """AWS Signature Version 4 of `GET /`, which lists buckets."""
    moment = (at or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{moment[:8]}/us-east-1/s3/aws4_request"
    signed = {"host": f"{host}:{port}", "x-amz-content-sha256": EMPTY_SHA256, "x-amz-date": moment}
    names = ";".join(signed)
    canonical = "\n".join(
        ["GET", "/", "", *(f"{name}:{value}" for name, value in signed.items()), "", names, EMPTY_SHA256]
    )
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{secret_key}".encode()
    for part in (*scope.split("/"), text):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    credential = f"Credential={access_key}/{scope}, SignedHeaders={names}, Signature={key.hex()}"
    return {**signed, "authorization": f"AWS4-HMAC-SHA256 {credential}"}


def http_status(port: int, path: str, host: str = LOOPBACK) -> int:
    return http_get(port, path, host)[0]


def http_get(port: int, path: str, host: str = LOOPBACK, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
    """Status and the first 64 KiB of the answer; status 0 when there is none."""
    client = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        client.request("GET", path, headers=dict(headers or {}))
        answer = client.getresponse()
        return answer.status, answer.read(65536)
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        client.close()
