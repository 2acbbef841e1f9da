"""Handing calls and events on: from the pooled function, which knows who calls, to the process of that tenant alone.

The tenant of a call is known only once its key is. So the pooled function authenticates and authorises the call as
ever, and then passes it on as it came, with a token for that one process in place of the caller's credential. What the
process leaves in its tenant's outboxes is published and sealed from here, where the keys for that are.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from shared.errors import DeadlineExceeded, Refusal, Unavailable
from shared.events import CloudEvent, to_http
from shared.function import body
from shared.function.injection import of_no_one_tenant, onward_of
from shared.function.presence import CallerGone, while_connected
from shared.identity import Caller, Tokens
from shared.ids import PLATFORM, TenantId
from shared.postgres import Databases
from shared.tenancy.dedications import Addresses

if TYPE_CHECKING:
    import httpx
    from starlette.types import ASGIApp, Receive, Scope, Send

    from shared.function.call import Call
    from shared.function.catalog import Deployable
    from shared.function.process import Process

CONNECT_TIMEOUT_S = 5.0
ANSWER_GRACE_S = 2.0
"""The process itself ends a call at its function's limit, and says so."""
CONNECTIONS_MAX = 1000
IDLE_MAX = 20
PASSED_ON = frozenset(
    {b"content-type", b"content-length", b"content-encoding", b"accept", b"idempotency-key", b"range"}
)
"""Of the request's headers. Credentials are replaced; what no function reads stays here."""
OF_THE_CONNECTION = frozenset(
    {b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"date", b"server"}
)
"""Of the answer's headers: those that each hop writes itself (RFC 9110, 7.6.1)."""
REQUEST_ID = b"x-request-id"
"""Every answer of a function bears it. One without comes from something on the way."""


@dataclass(frozen=True)
class Target:
    """What is known of the function that another process serves. `onward`: what it may call for its callers."""

    name: str
    timeout_s: int
    onward: frozenset[str]


def target_of(deployable: Deployable) -> Target:
    return Target(deployable.name, deployable.function.timeout_s, onward_of(deployable.function))


class EventRefused(Refusal):
    """A process of one tenant says that an event will never succeed: the pooled function keeps the event."""

    status, code, title = 422, "event_refused", "Event refused"


class Forwarder:
    """Passes on what is another process's to serve."""

    def __init__(self, addresses: Addresses, tokens: Tokens, databases: Databases) -> None:
        import httpx

        self.addresses = addresses
        self._tokens = tokens
        self._databases = databases
        limits = httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=IDLE_MAX)
        self._http = httpx.AsyncClient(limits=limits, trust_env=False, follow_redirects=False)

    def app(self, address: str, call: Call, target: Target) -> ASGIApp:
        """Serves the call from there. It raises `Unavailable` or `DeadlineExceeded` when there is no whole answer."""

        async def passed_on(scope: Scope, receive: Receive, send: Send) -> None:
            request = self._request(address, call, target, scope=scope, receive=receive)
            try:
                async with self._answer(request, target.name, call.caller.tenant) as answer:
                    if REQUEST_ID.decode() not in answer.headers:
                        raise Unavailable(
                            f"{target.name!r} of {call.caller.tenant!r} is not served at the moment",
                            retry_after_s=2,
                        )
                    await while_connected(scope, receive, passed_back(answer, send))
            except CallerGone:
                return
            finally:
                self._announce(call.caller.tenant)

        return passed_on

    async def deliver(self, address: str, event: CloudEvent, target: Target, *, trace: str) -> None:
        """Deliver the event there. Raises `Busy` for "try again", `EventRefused` for what will never succeed."""
        caller = Caller(event.tenant, f"event:{event.id}"[:120], "system", "function")
        headers, content = to_http(event)
        request = self._http.build_request(
            "POST",
            f"{address}/events/{target.name}",
            headers={**headers, "traceparent": trace, "authorization": self._bearer(caller, target)},
            content=content,
            timeout=self._timeout(target),
        )
        try:
            async with self._answer(request, target.name, event.tenant) as answer:
                await answer.aread()
        finally:
            self._announce(event.tenant)
        if (reason := refusal_in(answer)) is not None:
            raise EventRefused(reason)
        if answer.status_code != 204:
            raise Unavailable(f"{target.name!r} of {event.tenant!r} answered {answer.status_code}", retry_after_s=2)

    def _request(self, address: str, call: Call, target: Target, *, scope: Scope, receive: Receive) -> httpx.Request:
        import httpx

        headers = [(name, value) for name, value in scope["headers"] if name in PASSED_ON]
        headers.append((REQUEST_ID, call.request_id.encode()))
        headers.append((b"traceparent", call.traceparent.encode()))
        headers.append((b"authorization", self._bearer(call.caller, target).encode()))
        has_body = any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"])
        path = scope.get("raw_path") or quote(scope["path"]).encode()
        query = b"?" + scope["query_string"] if scope["query_string"] else b""
        return self._http.build_request(
            scope["method"],
            httpx.URL(address).copy_with(raw_path=path + query),
            headers=headers,
            content=body.pieces(receive) if has_body else None,
            timeout=self._timeout(target),
        )

    @asynccontextmanager
    async def _answer(self, request: httpx.Request, function: str, tenant: TenantId) -> AsyncIterator[httpx.Response]:
        import httpx

        try:
            answer = await self._http.send(request, stream=True)
            try:
                yield answer
            finally:
                await answer.aclose()
        except httpx.TransportError as lost:
            if isinstance(lost, httpx.ReadTimeout):
                raise DeadlineExceeded(f"{function!r} of tenant {tenant!r} did not answer in time") from lost
            raise Unavailable(
                f"{function!r} of tenant {tenant!r} is not reachable: {type(lost).__name__}", retry_after_s=2
            ) from lost

    def _bearer(self, caller: Caller, target: Target) -> str:
        return f"Bearer {self._tokens.mint_forwarded(caller, function=target.name, onward=target.onward)}"

    def _timeout(self, target: Target) -> httpx.Timeout:
        import httpx

        return httpx.Timeout(target.timeout_s + ANSWER_GRACE_S, connect=CONNECT_TIMEOUT_S)

    def _announce(self, tenant: TenantId) -> None:
        """Have published and sealed what the process committed. Should this get lost, the sweeps come by."""
        for hook in self._databases.on_commit:
            hook(tenant, True, False)
            hook(tenant, False, True)

    async def close(self) -> None:
        await self._http.aclose()


def refusal_in(answer: httpx.Response) -> str | None:
    """Why the function will never handle the event; None for every answer that says anything else."""
    if answer.status_code != EventRefused.status or answer.headers.get("content-type") != "application/problem+json":
        return None
    problem = answer.json()
    return str(problem["detail"]) if problem.get("code") == EventRefused.code else None


async def passed_back(answer: httpx.Response, send: Send) -> None:
    headers = [(name.lower(), value) for name, value in answer.headers.raw]
    kept = [(name, value) for name, value in headers if name not in OF_THE_CONNECTION and name != REQUEST_ID]
    await send({"type": "http.response.start", "status": answer.status_code, "headers": kept})
    async for piece in answer.aiter_raw():
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def may_be_elsewhere(process: Process, deployable: Deployable) -> bool:
    """Whether this process has to ask, for each tenant, who serves it."""
    return not process.settings.dedicated_tenant and not of_no_one_tenant(deployable.function)


async def elsewhere(process: Process, tenant: TenantId, deployable: Deployable) -> str | None:
    """Where the tenant's calls of the function go; None when this process serves them. Raises `Unavailable`."""
    if tenant == PLATFORM:
        return None
    forwarder = process.opened(Forwarder)
    if forwarder is None:
        forwarder = await process.get(Forwarder)
    return await forwarder.addresses.of(tenant, deployable.name)
