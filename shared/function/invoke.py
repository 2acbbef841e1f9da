"""How a function calls a function: over HTTP, with a token bound to the caller's tenant and to that one function."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from shared.errors import DeadlineExceeded, Unavailable

if TYPE_CHECKING:
    import httpx

    from shared.settings import Settings

CONNECT_TIMEOUT_S = 5.0
LLM_FUNCTION = "gateway-llm"

Credential = Callable[[str], str]
"""The token to show to the named function."""


class FunctionClient:
    """The process's one HTTP client towards the platform's functions."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: httpx.AsyncClient | None = None

    @property
    def http(self) -> httpx.AsyncClient:
        if self._client is None:
            import httpx

            limits = httpx.Limits(max_connections=100, max_keepalive_connections=20)
            self._client = httpx.AsyncClient(limits=limits, trust_env=False, follow_redirects=False)
        return self._client

    def url(self, function: str, path: str) -> str:
        origin = self._settings.llm_url if function == LLM_FUNCTION else self._settings.platform_url
        return origin + path

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()


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
