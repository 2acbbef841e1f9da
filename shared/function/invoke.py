"""How a function calls a function: over HTTP, with a token bound to the caller's tenant and to that one function."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from shared.errors import DeadlineExceeded, Unavailable

if TYPE_CHECKING:
    import httpx

    from shared.llm.http import Answer, Client
    from shared.settings import Settings

CONNECT_TIMEOUT_S = 5.0
LLM_FUNCTION = "gateway-llm"
TRANSLATE_FUNCTION = "gateway-translate"
SILENCE_S = 330.0
"""How long an answer in pieces may be silent: longer than a provider may, so that who waits for it says so first."""

Credential = Callable[[str], str]
"""The token to show to the named function."""


class FunctionClient:
    """The process's one HTTP client towards the platform's functions."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: httpx.AsyncClient | None = None
        self._in_pieces: Client | None = None

    @property
    def http(self) -> httpx.AsyncClient:
        if self._client is None:
            import httpx

            limits = httpx.Limits(max_connections=100, max_keepalive_connections=20)
            self._client = httpx.AsyncClient(limits=limits, trust_env=False, follow_redirects=False)
        return self._client

    @property
    def in_pieces(self) -> Client:
        """The client for hot paths, to the platform's own addresses, which are not checked."""
        if self._in_pieces is None:
            from shared.llm.http import Client

            self._in_pieces = Client(addresses_of, read_timeout_s=SILENCE_S)
        return self._in_pieces

    def url(self, function: str, path: str) -> str:
        own = {LLM_FUNCTION: self._settings.llm_url, TRANSLATE_FUNCTION: self._settings.translate_url}
        return (own.get(function) or self._settings.platform_url) + path

    async def close(self) -> None:
        if self._in_pieces is not None:
            await self._in_pieces.close()
        if self._client is not None:
            await self._client.aclose()


async def addresses_of(host: str, port: int) -> list[str]:
    """A host's addresses, whatever they are."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


class Invoke:
    """Calls other functions on behalf of one caller, within one trace."""

    def __init__(self, client: FunctionClient, credential: Credential, traceparent: str) -> None:
        self._client = client
        self._credential = credential
        self._traceparent = traceparent

    def _headers(self, function: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self._credential(function)}", "traceparent": self._traceparent}

    async def request(
        self,
        function: str,
        method: str,
        path: str,
        *,
        json: Mapping[str, object] | None = None,
        timeout_s: float = 30.0,
    ) -> httpx.Response:
        """The whole answer, whatever its status. Raises `Unavailable` or `DeadlineExceeded` when there is none."""
        import httpx

        try:
            return await self._client.http.request(
                method,
                self._client.url(function, path),
                json=json,
                headers=self._headers(function),
                timeout=httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S),
            )
        except httpx.TimeoutException as late:
            raise DeadlineExceeded(f"function {function!r} did not answer within {timeout_s} s") from late
        except httpx.TransportError as lost:
            raise Unavailable(f"function {function!r} is not reachable: {type(lost).__name__}") from lost

    @asynccontextmanager
    async def stream(
        self,
        function: str,
        method: str,
        path: str,
        *,
        json: Mapping[str, object] | None = None,
        timeout_s: float = 300.0,
    ) -> AsyncIterator[httpx.Response]:
        """The answer while it arrives; leaving the block closes the call."""
        import httpx

        try:
            async with self._client.http.stream(
                method,
                self._client.url(function, path),
                json=json,
                headers=self._headers(function),
                timeout=httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S),
            ) as response:
                yield response
        except httpx.TimeoutException as late:
            raise DeadlineExceeded(f"function {function!r} did not answer within {timeout_s} s") from late
        except httpx.TransportError as lost:
            raise Unavailable(f"function {function!r} broke off: {type(lost).__name__}") from lost

    async def post(self, function: str, path: str, body: bytes) -> Answer:
        """The answer to a JSON body, its head read; who got it closes it. One attempt, on a kept connection.

        Raises `shared.llm.http.Failure`, or `OSError` when the function's name leads nowhere.
        """
        headers = {name.encode(): value.encode() for name, value in self._headers(function).items()}
        headers[b"content-type"] = b"application/json"
        return await self._client.in_pieces.send(b"POST", self._client.url(function, path), headers, body)
