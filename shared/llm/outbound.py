"""Connections to providers: every address is checked at the moment of connecting, and nothing is tried twice.

A name is resolved once, each of its addresses is checked, and the connection goes to a checked address; so a name that
resolves to something else a moment later (DNS rebinding) gains nothing. TLS is verified against the name.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from functools import cached_property

from shared.errors import Refusal, Unavailable
from shared.ids import TenantId
from shared.llm.http import CONNECT_TIMEOUT_S, Client
from shared.remembering import Remembered

READ_TIMEOUT_S = 300.0  # a reasoning model may think for minutes before its first byte
ADDRESSES_MAX = 4
REMEMBERED_S = 0.8  # a changed or deleted provider is in force everywhere within a second
REMEMBERED_MAX = 2000
CARRIERS = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("::/96"))
"""NAT64, and the IPv4-compatible addresses of old (RFC 4291 §2.5.5.1)."""
METADATA = frozenset(map(ipaddress.ip_address, ("100.100.100.200", "fd00:ec2::254")))
"""Where clouds hand out credentials to whoever asks, besides the link-local addresses."""

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


Allowed = Callable[[TenantId], Awaitable[tuple[str, ...] | None]]
"""Which models a tenant may use: see `shared.llm.allowed`."""


class ForbiddenAddress(Refusal):
    """The provider's name leads to an address that this platform does not connect to."""

    status, code, title = 400, "forbidden_address", "Address not allowed"


class NotConnected(Unavailable):
    """There was no connection to the provider: nothing was sent."""

    code, title = "provider_unreachable", "Provider not reachable"


async def checked_addresses(host: str, port: int, *, private: bool) -> list[str]:
    """The host's addresses, all of which may be connected to. Raises `ForbiddenAddress` or `NotConnected`."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError, TimeoutError) as failure:
        raise NotConnected(f"the provider's host {host!r} has no address", retry_after_s=5) from failure
    addresses = [str(entry[4][0]) for entry in found]
    refused = [address for address in addresses if not allowed(address, private=private)]
    if refused:
        can_be = all(allowed(address, private=True) for address in refused)
        way = "an operator can allow that with DCODER_PRIVATE_PROVIDER_URLS=true" if can_be else "that is never allowed"
        raise ForbiddenAddress(f"the provider's host {host!r} leads to the internal address {refused[0]}; {way}")
    return addresses[:ADDRESSES_MAX]


def allowed(address: str, *, private: bool) -> bool:
    """Public addresses always; loopback and private ones when asked; link-local, multicast, unspecified ones and those
    of metadata services never."""
    return all(
        not (one.is_link_local or one.is_multicast or one.is_unspecified or one in METADATA)
        and (private or is_public(one))
        for one in meant_by(ipaddress.ip_address(address.partition("%")[0]))
    )


def is_public(address: IPAddress) -> bool:
    """`is_global` takes the site-local addresses of old (RFC 3879) for public."""
    return address.is_global and not (isinstance(address, ipaddress.IPv6Address) and address.is_site_local)


def meant_by(address: IPAddress) -> Sequence[IPAddress]:
    """The address and those it carries inside: mapped (RFC 4291), compatible, NAT64 (RFC 6052), 6to4 and Teredo."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    if address.ipv4_mapped:
        return [address.ipv4_mapped]
    inside = [address.sixtofour, *(address.teredo or ())]
    if any(address in carrier for carrier in CARRIERS) and int(address) > 1:  # :: and ::1 are themselves
        inside.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [address, *(one for one in inside if one is not None)]


async def everything(tenant: TenantId) -> None:
    """No model is closed."""


class Providers:
    """The process's one client for all providers: no proxies of the environment, no redirects, no second attempt."""

    def __init__(
        self, *, private: bool, read_timeout_s: float = READ_TIMEOUT_S, allowed: Allowed | None = None
    ) -> None:
        self.allowed = allowed or everything
        self._private = private
        self._read_timeout_s = read_timeout_s
        self.remembered = Remembered[TenantId, object](fresh_s=REMEMBERED_S, kept_max=REMEMBERED_MAX)
        """What was read of each tenant's providers."""

    @cached_property
    def client(self) -> Client:
        return Client(self._addresses, read_timeout_s=self._read_timeout_s)

    async def close(self) -> None:
        if "client" in self.__dict__:
            await self.client.close()

    async def _addresses(self, host: str, port: int) -> list[str]:
        return await checked_addresses(host, port, private=self._private)
