"""The command line's client over TLS: who is verified is the name that was asked for, not the gateway's address."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from shared.cli.client import Client
from shared.cli.failures import Missing
from tests.fixtures.certificates import certificate

HOST = "platform.dcoder.example.com"


class Echo(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = f'{{"host": "{self.headers["Host"]}"}}'.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server with a certificate of `HOST` alone, by an authority that this process trusts."""
    files = certificate(tmp_path, [HOST])
    monkeypatch.setenv("SSL_CERT_FILE", str(files.authority))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.chain, files.key)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_certificate_of_the_name_is_taken_although_the_address_is_another(gateway: str) -> None:
    assert Client(gateway, "key", host=HOST).call("GET", "/").json() == {"host": HOST}


def test_a_certificate_of_another_name_is_refused(gateway: str) -> None:
    with pytest.raises(Missing) as refused:
        Client(gateway, "key", host="llm.dcoder.example.com").call("GET", "/")

    assert "Hostname mismatch" in refused.value.why


def test_a_certificate_of_an_authority_that_is_not_trusted_is_refused(
    gateway: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")

    with pytest.raises(Missing) as refused:
        Client(gateway, "key", host=HOST).call("GET", "/")

    assert "CERTIFICATE_VERIFY_FAILED" in refused.value.why
