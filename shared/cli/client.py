"""HTTP to the running stack, with the key that the host keeps for the command line."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, BinaryIO
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import HTTPSHandler, OpenerDirector, Request, build_opener

from shared.cli.failures import Failed, Missing
from shared.host.home import Home, find_home

TIMEOUT_S = 120.0
DOWNLOAD_BYTES = 256 * 1024
DEMO = "demo"


@dataclass(frozen=True)
class Answer:
    """A successful HTTP answer."""

    status: int
    body: bytes = field(repr=False)

    def json(self) -> dict[str, object]:
        parsed: object = json.loads(self.body) if self.body else {}
        return parsed if isinstance(parsed, dict) else {"items": parsed}


@dataclass(frozen=True)
class Client:
    """One server of the stack, and the key to present there. `host` is its name where one gateway serves several."""

    url: str
    key: str = field(repr=False)
    timeout_s: float = TIMEOUT_S
    host: str = ""

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | bytes | None = None,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request. Raises `Failed` with the server's own words, or `Missing` when nothing answers."""
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        with self._answer(method, path, content, query=query, headers=headers) as answer:
            try:
                return Answer(answer.status, answer.read())
            except (http.client.HTTPException, OSError) as silent:
                raise self._silent(silent) from silent

    def download(self, path: str, target: BinaryIO) -> None:
        """Stream the answer's body into `target`. Raises as `call` does, and `Failed` for a body that is cut short."""
        with self._answer("GET", path) as answer:
            while True:
                try:
                    block = answer.read(DOWNLOAD_BYTES)
                except (http.client.HTTPException, OSError) as cut:
                    raise Failed(
                        "the answer was cut short", why=f"GET {path}: {cut or type(cut).__name__}", fix="dcoder logs"
                    ) from cut
                if not block:
                    return
                target.write(block)

    @contextmanager
    def _answer(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        address = f"{self.url}{quote(path, safe='/:%')}" + (f"?{urlencode(query)}" if query else "")
        request = Request(address, content, method=method)  # noqa: S310  http, to the stack's own address
        request.add_header("Authorization", f"Bearer {self.key}")
        request.add_header("Content-Type", "application/json")
        if self.host:
            request.add_header("Host", self.host)
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        try:
            answer = opener(self.host).open(request, timeout=self.timeout_s)
        except HTTPError as refused:
            raise refusal(method, path, refused) from refused
        except (URLError, http.client.HTTPException, OSError) as silent:
            raise self._silent(silent) from silent
        with answer:
            yield answer

    def _silent(self, failure: Exception) -> Missing:
        if self.host:
            fix = "name the cluster's ingress by --gateway; dcoder deploy status says what is ready"
            return Missing(f"nothing answers at {self.url} for {self.host}", why=str(failure), fix=fix)
        return Missing(f"nothing answers at {self.url}", why=str(failure), fix="dcoder status, then dcoder up --detach")


class ByName(http.client.HTTPSConnection):
    """TLS to an address at which several names answer: the certificate must be of the name, not of the address."""

    def __init__(self, address: str, *, name: str, context: ssl.SSLContext, **more: Any) -> None:  # Any: urllib's
        super().__init__(address, context=context, **more)
        self._name, self._tls = name, context

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._name)


class NamedHandler(HTTPSHandler):
    """Opens `https:` addresses under one name."""

    def __init__(self, name: str) -> None:
        # The default authorities, or those of SSL_CERT_FILE.
        self._named = partial(ByName, name=name, context=ssl.create_default_context())
        super().__init__()

    def https_open(self, request: Request) -> http.client.HTTPResponse:
        return self.do_open(self._named, request)


def opener(name: str) -> OpenerDirector:
    return build_opener(NamedHandler(name)) if name else build_opener()


def refusal(method: str, path: str, refused: HTTPError) -> Failed:
    """The server's problem document, or OpenAI-shaped error, as a failure."""
    try:
        document = json.loads(refused.read())
    except ValueError:
        document = {}
    inner = document.get("error") if isinstance(document.get("error"), dict) else document
    detail = inner.get("detail") or inner.get("message") or inner.get("title") or refused.reason
    return Failed(
        str(detail),
        why=f"{method} {path} answered {refused.code} {inner.get('code') or ''}".strip(),
        fix=fix(refused.code),
    )


def fix(status: int) -> str:
    """The command that helps most often with such an answer."""
    if status == 401:
        return "dcoder key ls, then dcoder key create"
    if status == 404:
        return "check the name: dcoder tenant ls, dcoder key ls"
    if status in (429, 503, 504):
        return "try again in a moment; dcoder doctor says what is wrong"
    return "dcoder logs" if status >= 500 else "correct what is named above, then run the command again"


def running(home: Home | None = None) -> tuple[Home, dict[str, object]]:
    """The home and what its running host wrote down. Raises `Missing` when no host runs."""
    home = home or find_home()
    if home.host() is None:
        raise Missing("the stack is not running", why=f"no host holds {home.path}", fix="dcoder up --detach")
    return home, home.read("host.json")


def platform_as_operator() -> Client:
    home, record = running()
    return Client(str(record["platform_url"]), key_of(home, "admin_key", None))


def platform_as(tenant: str) -> Client:
    home, record = running()
    return Client(str(record["platform_url"]), tenant_key(home, tenant))


def gateway_as(tenant: str) -> Client:
    home, record = running()
    return Client(str(record["llm_url"]), tenant_key(home, tenant))


def tenant_key(home: Home, tenant: str) -> str:
    """The tenant's key that the command line uses. Raises `Missing` when it keeps none."""
    return key_of(home, "tenants", tenant)


def key_of(home: Home, name: str, tenant: str | None) -> str:
    kept = home.read("secrets/keys.json").get(name)
    found = kept.get(tenant) if isinstance(kept, dict) else kept
    if isinstance(found, str) and found:
        return found
    if tenant is None:
        raise Missing(
            "the operator's key is not in this home", why=f"{home.secrets / 'keys.json'} lacks it", fix="dcoder up"
        )
    raise Missing(
        f"no key of tenant {tenant!r} is kept here",
        why=f"{home.secrets / 'keys.json'} has none",
        fix=f"dcoder tenant ls, then dcoder key create --tenant {tenant}",
    )


def keep_tenant_key(home: Home, tenant: str, key: str) -> None:
    """Keep the key for later commands, readable by its owner only."""
    kept = home.read("secrets/keys.json")
    tenants = kept.get("tenants")
    home.write(
        "secrets/keys.json", {**kept, "tenants": {**(tenants if isinstance(tenants, dict) else {}), tenant: key}}
    )


def forget_tenant_key(home: Home, tenant: str) -> None:
    kept = home.read("secrets/keys.json")
    tenants = kept.get("tenants")
    if isinstance(tenants, dict) and tenants.pop(tenant, None) is not None:
        home.write("secrets/keys.json", {**kept, "tenants": tenants})
