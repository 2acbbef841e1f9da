"""Connections to providers go to checked addresses only."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.llm import http, outbound
from shared.llm.outbound import ForbiddenAddress, NotConnected, Providers, allowed
from tests.fixtures.provider import Script, serving_provider

INSIDE = [
    "127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "::1", "fc00::1", "fd12::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::", "2002:a00:1::",
    "198.18.0.1", "240.0.0.1", "255.255.255.255", "::127.0.0.1", "::10.0.0.1", "fec0::1",
]  # fmt: skip
NEVER = [
    "169.254.169.254", "fe80::1", "fe80::1%eth0", "0.0.0.0", "::", "224.0.0.1", "ff02::1",  # noqa: S104
    "::ffff:169.254.169.254", "::169.254.169.254", "64:ff9b::169.254.169.254", "100.100.100.200", "fd00:ec2::254",
]  # fmt: skip
OUTSIDE = ["1.1.1.1", "104.18.7.192", "2606:4700::6812:7c0", "64:ff9b::101:101"]


@pytest.mark.parametrize("address", [*INSIDE, *NEVER])
def test_an_address_inside_the_network_is_refused(address: str) -> None:
    assert not allowed(address, private=False)


@pytest.mark.parametrize("address", NEVER)
def test_link_local_and_metadata_addresses_are_refused_even_where_private_ones_are_not(address: str) -> None:
    assert not allowed(address, private=True)


@pytest.mark.parametrize("address", OUTSIDE)
def test_a_public_address_is_allowed(address: str) -> None:
    assert allowed(address, private=False)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "::1", "fd12::1"])
def test_a_private_address_is_allowed_where_the_operator_says_so(address: str) -> None:
    assert allowed(address, private=True)


@given(st.ip_addresses(v=4))
def test_an_address_inside_another_is_judged_like_the_address_itself(address: ipaddress.IPv4Address) -> None:
    for carrier in (f"::ffff:{address}", f"64:ff9b::{address}"):
        assert allowed(carrier, private=False) <= allowed(str(address), private=False)


async def get(providers: Providers, url: str) -> http.Answer:
    return await providers.client.send(b"GET", url, {})


async def post(providers: Providers, url: str) -> http.Answer:
    headers = {b"content-type": b"application/json"}
    return await providers.client.send(b"POST", url, headers, b'{"model":"m","input":"x"}')


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Name resolution by these answers, one a look-up, the last one for ever. Returns the names looked up."""
    asked: list[str] = []

    async def getaddrinfo(host: str, port: int, **_: object) -> list[tuple[Any, ...]]:  # Any: as the library's
        asked.append(host)
        found = answers[min(len(asked), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo, raising=False)
    return asked


async def test_a_name_with_one_internal_address_among_public_ones_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, ["1.1.1.1", "10.0.0.1"])
    with pytest.raises(ForbiddenAddress):
        await outbound.checked_addresses("provider.example", 443, private=False)


@pytest.mark.parametrize(("address", "way"), [("10.0.0.1", "an operator can"), ("169.254.169.254", "never")])
async def test_a_refusal_says_whether_an_operator_can_allow_it(
    monkeypatch: pytest.MonkeyPatch, address: str, way: str
) -> None:
    resolving(monkeypatch, [address])
    with pytest.raises(ForbiddenAddress, match=way):
        await outbound.checked_addresses("provider.example", 443, private=False)


async def test_a_name_that_nobody_knows_is_a_provider_that_is_not_reachable() -> None:
    with pytest.raises(NotConnected):
        await outbound.checked_addresses("no-such-host.invalid", 443, private=False)


async def test_a_loopback_provider_is_refused_before_a_byte_is_sent() -> None:
    providers = Providers(private=False)
    async with serving_provider() as provider:
        with pytest.raises(ForbiddenAddress):
            await get(providers, f"{provider.base_url}/models")
        assert provider.calls == []
    await providers.close()


async def test_a_name_that_changes_its_address_between_calls_is_checked_at_each_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    providers = Providers(private=False)
    resolving(monkeypatch, ["127.0.0.1"])
    with pytest.raises(ForbiddenAddress):
        await get(providers, "http://rebinding.example/v1/models")
    await providers.close()


async def test_the_next_address_is_tried_when_one_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    providers = Providers(private=True)
    async with serving_provider() as provider:
        port = urlsplit(provider.origin).port
        resolving(monkeypatch, ["127.0.0.2", "127.0.0.1"], ["127.0.0.1"])
        answer = await post(providers, f"http://two-homes.example:{port}/v1/embeddings")
        assert answer.status == 200
        assert provider.calls[0].headers["host"] == f"two-homes.example:{port}"
    await providers.close()


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    providers = Providers(private=True)
    async with serving_provider() as provider:
        assert (await post(providers, f"{provider.base_url}/embeddings")).status == 200
    await providers.close()


async def test_a_redirect_is_not_followed() -> None:
    providers = Providers(private=True)
    async with serving_provider() as provider:
        provider.will(Script((), 302, (("location", "/elsewhere"), ("content-length", "0"))))
        answer = await get(providers, f"{provider.base_url}/models")
        assert (answer.status, len(provider.calls)) == (302, 1)
    await providers.close()


async def test_a_certificate_that_nobody_vouches_for_is_refused() -> None:
    providers = Providers(private=True)
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(http.ConnectFailure):
        await get(providers, f"https://127.0.0.1:{port}/v1/models")
    server.close()
    await providers.close()


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "0177.0.1", "127.1", "[::ffff:127.0.0.1]", "localhost"])
async def test_no_spelling_of_loopback_gets_through(host: str) -> None:
    providers = Providers(private=False)
    async with serving_provider() as provider:
        port = urlsplit(provider.origin).port
        with pytest.raises(ForbiddenAddress):
            await get(providers, f"http://{host}:{port}/v1/models")
        assert provider.calls == []
    await providers.close()
