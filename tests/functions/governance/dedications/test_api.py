"""Dedications over the API: wishes, addresses and ends, each idempotent, each an operator's, each audited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from shared.errors import Conflict
from shared.ids import PLATFORM, TenantId
from shared.postgres import ControlDatabase
from shared.settings import Settings
from shared.tenancy import TenantRegistry
from tests.fixtures.runtime import Runtime, serving_function

SEARCH = "knowledge-search"


@pytest.fixture
async def runtime(settings: Settings, control: ControlDatabase) -> AsyncIterator[Runtime]:
    async with serving_function("governance-dedications", settings) as runtime:
        yield runtime
    await control.execute("DELETE FROM dedications")


async def asked(runtime: Runtime, method: str, path: str, content: bytes = b"{}") -> tuple[int, Any]:
    runtime.client.headers["content-type"] = "application/json"
    answer = await runtime.call(method, f"/v1/dedications{path}", tenant=PLATFORM, role="operator", content=content)
    return answer.status_code, answer.json() if answer.content else None


async def states(runtime: Runtime) -> list[tuple[str, str, str]]:
    _, told = await asked(runtime, "GET", "")
    return [(one["tenant"], one["function"], one["state"]) for one in told["dedications"]]


async def serve(runtime: Runtime, path: str, address: str = "http://127.0.0.1:1234") -> tuple[int, Any]:
    return await asked(runtime, "PUT", f"{path}/address", b'{"address": "%s"}' % address.encode())


async def test_a_dedication_is_wished_served_ended_and_gone_and_each_step_may_be_repeated(
    runtime: Runtime, tenant: TenantId, control: ControlDatabase
) -> None:
    path = f"/{tenant}/{SEARCH}"
    for _ in range(2):
        assert (await asked(runtime, "PUT", path))[1]["state"] == "asked"
    for _ in range(2):
        assert (await serve(runtime, path))[1]["address"] == "http://127.0.0.1:1234"
    assert (await asked(runtime, "PUT", path))[1]["state"] == "serving", "asking again takes nothing away"
    assert await states(runtime) == [(tenant, SEARCH, "serving")]
    for _ in range(2):
        status, told = await asked(runtime, "DELETE", path)
        assert (status, told["state"]) == (202, "ending")
    assert (await asked(runtime, "DELETE", f"{path}/address"))[0] == 204
    assert await states(runtime) == []
    assert (await asked(runtime, "DELETE", path))[0] == 404

    records = await control.fetch("SELECT record FROM audit_outbox")
    told = b"".join(bytes(row["record"]) for row in records)
    for operation in (b"dedicate", b"serve", b"undedicate", b"gone"):
        assert b"governance-dedications." + operation in told


async def test_who_asks_again_while_it_ends_gets_it_back_without_an_address(runtime: Runtime, tenant: TenantId) -> None:
    path = f"/{tenant}/{SEARCH}"
    await asked(runtime, "PUT", path)
    await serve(runtime, path)
    await asked(runtime, "DELETE", path)

    _, told = await asked(runtime, "PUT", path)

    assert (told["state"], told["address"]) == ("asked", None)
    assert (await asked(runtime, "DELETE", f"{path}/address"))[0] == 409


async def test_what_ends_serves_nowhere(runtime: Runtime, tenant: TenantId) -> None:
    path = f"/{tenant}/{SEARCH}"
    await asked(runtime, "PUT", path)
    await asked(runtime, "DELETE", path)

    assert (await serve(runtime, path))[0] == 409


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/acme/knowledge-nothing", 404, "no function 'knowledge-nothing'"),
        ("/acme/governance-keys", 422, "it asks for ControlDatabase, ControlTransaction, Settings"),
        ("/nobody/knowledge-search", 404, "no tenant 'nobody'"),
        ("/platform/knowledge-search", 404, "no tenant 'platform'"),
    ],
)
async def test_what_cannot_be_dedicated_is_refused_with_the_reason(
    runtime: Runtime, tenant: TenantId, path: str, status: int, said: str
) -> None:
    found, told = await asked(runtime, "PUT", path)

    assert found == status
    assert said in told["detail"]
    assert await states(runtime) == []


@pytest.mark.parametrize("address", ["", "ftp://x", "http://", "http://x/path", "http://u@x?q", "x:80", "http://x\\n"])
async def test_an_address_that_is_no_origin_is_refused(runtime: Runtime, tenant: TenantId, address: str) -> None:
    await asked(runtime, "PUT", f"/{tenant}/{SEARCH}")

    assert (await serve(runtime, f"/{tenant}/{SEARCH}", address))[0] == 422
    assert await states(runtime) == [(tenant, SEARCH, "asked")]


async def test_ten_who_ask_at_once_make_one_dedication(runtime: Runtime, tenant: TenantId) -> None:
    answers = await asyncio.gather(*(asked(runtime, "PUT", f"/{tenant}/{SEARCH}") for _ in range(10)))

    assert {status for status, _ in answers} == {200}
    assert len(await states(runtime)) == 1


@pytest.mark.parametrize("role", ["admin", "member"])
async def test_a_tenants_own_keys_may_neither_see_nor_change_dedications(
    runtime: Runtime, tenant: TenantId, role: str
) -> None:
    for method, path in (("GET", ""), ("PUT", f"/{tenant}/{SEARCH}"), ("DELETE", f"/{tenant}/{SEARCH}")):
        answer = await runtime.call(method, f"/v1/dedications{path}", tenant=tenant, role=role)
        assert answer.status_code == 403


async def test_a_tenant_with_a_function_of_its_own_is_not_moved_and_one_that_moves_gets_none(
    runtime: Runtime, registry: TenantRegistry, control: ControlDatabase, tenant: TenantId
) -> None:
    await asked(runtime, "PUT", f"/{tenant}/{SEARCH}")
    async with control.transaction() as transaction:
        with pytest.raises(Conflict, match=f"dcoder tenant undedicate {tenant} {SEARCH}"):
            await registry.begin_move(transaction, tenant, "default-not")
    await control.execute("DELETE FROM dedications")
    await control.execute("UPDATE tenants SET state = 'moving', moving_to = 'x' WHERE id = $1", tenant)
    try:
        assert (await asked(runtime, "PUT", f"/{tenant}/{SEARCH}"))[0] == 409
    finally:
        await control.execute("UPDATE tenants SET state = 'ready', moving_to = NULL WHERE id = $1", tenant)


async def test_a_deleted_tenants_dedications_go_with_it(runtime: Runtime, registry: TenantRegistry) -> None:
    gone = (await registry.create("dedicated-gone")).id
    await asked(runtime, "PUT", f"/{gone}/{SEARCH}")

    await registry.delete(gone)

    assert await states(runtime) == []
