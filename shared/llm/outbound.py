"""Connections to providers: every address is checked at the moment of connecting, and nothing is tried twice.

A name is resolved once, each of its addresses is checked, and the connection goes to a checked address; so a name that
resolves to something else a moment later (DNS rebinding) gains nothing. TLS is verified against the name.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from functools import cached_property
from typing import TYPE_CHECKING, Any

from shared.errors import Refusal

if TYPE_CHECKING:
    import httpx
    from httpcore import AsyncNetworkBackend

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 120.0
CONNECTIONS_MAX = 200


class ForbiddenAddress(Refusal):
    """The provider's name leads to an address that this platform does not connect to."""

    status, code, title = 400, "forbidden_address", "Address not allowed"


async def checked_address(host: str, port: int, *, private: bool) -> str:
    """An address of the host that may be connected to. Raises `ForbiddenAddress`."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as failure:
        raise ForbiddenAddress(f"the provider's host {host!r} has no address: {failure.strerror}") from failure
    addresses = [str(entry[4][0]) for entry in found]
    refused = [address for address in addresses if not allowed(address, private=private)]
    if refused or not addresses:
        raise ForbiddenAddress(
            f"the provider's host {host!r} leads to the internal address {refused[0] if refused else '?'};"
            " an operator can allow that with DCODER_PRIVATE_PROVIDER_URLS=true"
        )
    return addresses[0]


def allowed(address: str, *, private: bool) -> bool:
    """Public addresses always; loopback and private ones when asked; link-local, multicast and unspecified never."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped:
        parsed = parsed.ipv4_mapped
    if parsed.is_link_local or parsed.is_multicast or parsed.is_unspecified:
        return False
    return private or parsed.is_global


class Providers:
    """The process's one client for all providers: no proxies of the environment, no redirects, no second attempt."""

    def __init__(self, *, private: bool) -> None:
        self._private = private

    @cached_property
    def client(self) -> httpx.AsyncClient:
        import httpx

        limits = httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=50, keepalive_expiry=30)
        transport = httpx.AsyncHTTPTransport(limits=limits, retries=0, trust_env=False)
        transport._pool._network_backend = checked_backend(self._private)  # httpx has no parameter for it
        return httpx.AsyncClient(
            transport=transport,
            timeout=httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            trust_env=False,
            follow_redirects=False,
        )

    async def close(self) -> None:
        if "client" in self.__dict__:
            await self.client.aclose()


def checked_backend(private: bool) -> AsyncNetworkBackend:
    import httpcore

    class CheckedBackend(httpcore.AnyIOBackend):
        async def connect_tcp(self, host: str, port: int, *arguments: Any, **named: Any) -> Any:  # Any: the base's own
            address = await checked_address(host, port, private=private)
            return await super().connect_tcp(address, port, *arguments, **named)

    return CheckedBackend()
