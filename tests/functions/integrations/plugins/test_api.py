"""Tenants' own functions over the API: taken, signed, shared out, gone; each an operator's to change, each audited."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from shared.bundles import revisions as own
from shared.bundles.archive import packed
from shared.bundles.revisions import FUNCTIONS_MAX, REVISIONS_KEPT, STORED_BYTES_MAX
from shared.bundles.signing import Sealed, opened
from shared.errors import Conflict
from shared.identity import Tokens
from shared.ids import PLATFORM, TenantId
from shared.postgres import ControlDatabase
from shared.settings import Settings
from shared.tenancy.dedications import refuse_any
from tests.fixtures.runtime import Runtime, serving_function
from tests.shared.bundles.rates import files, manifest


@pytest.fixture
async def runtime(settings: Settings, control: ControlDatabase) -> AsyncIterator[Runtime]:
    async with serving_function("integrations-plugins", settings) as runtime:
        runtime.client.headers["content-type"] = "application/json"
        yield runtime
    await control.execute("DELETE FROM own_functions")


def body(name: str = "rates", *, table: str = "RATES = {}\n", **more: object) -> bytes:
    archive = base64.b64encode(packed(files(name, table=table))).decode()
    document = {"archive": archive, "manifest": manifest(name).model_dump(mode="json"), **more}
    return json.dumps(document).encode()


async def asked(
    runtime: Runtime, method: str, path: str, content: bytes = b"{}", *, role: str = "operator", tenant: str = PLATFORM
) -> tuple[int, Any]:
    answer = await runtime.call(method, f"/v1/functions{path}", tenant=tenant, role=role, content=content)
    return answer.status_code, answer.json() if answer.content else None


async def deployed(runtime: Runtime, tenant: TenantId, *contents: bytes) -> None:
    for content in contents:
        status, told = await asked(runtime, "POST", f"/{tenant}", content)
        assert status == 201, told


async def answering(runtime: Runtime, tenant: TenantId, revision: int, port: int = 1234) -> Any:
    path = f"/{tenant}/rates/revisions/{revision}/address"
    status, told = await asked(runtime, "PUT", path, b'{"address": "http://127.0.0.1:%d"}' % port)
    assert status == 200, told
    return told


async def test_a_revision_serves_once_it_answers_and_the_one_before_until_then(
    runtime: Runtime, tenant: TenantId
) -> None:
    await deployed(runtime, tenant, body())
    assert (await asked(runtime, "GET", f"/{tenant}"))[1]["functions"][0]["serving"] == {}
    assert (await answering(runtime, tenant, 1))["serving"] == {"1": 100}

    await deployed(runtime, tenant, body(table="RATES = {'usd': 2}\n"))

    _, told = await asked(runtime, "GET", f"/{tenant}/rates")
    assert (told["traffic"], told["serving"]) == ({"2": 100}, {"1": 100})
    assert [one["revision"] for one in told["revisions"]] == [2, 1]
    assert (await answering(runtime, tenant, 2))["serving"] == {"2": 100}


async def test_what_is_kept_is_signed_for_that_tenant_and_revision(
    runtime: Runtime, tenant: TenantId, settings: Settings
) -> None:
    await deployed(runtime, tenant, body(), body())
    _, told = await asked(runtime, "GET", f"/{tenant}/rates/revisions/2")
    sealed = Sealed(*(base64.b64decode(told[part]) for part in ("archive", "statement", "signature")))
    public = Tokens((settings.secrets_dir / "tokens.key").read_bytes()).public

    bundle = opened(sealed, public=public, tenant=tenant, digest=told["digest"])

    assert (bundle.revision, bundle.tenant, bundle.manifest) == (2, tenant, manifest())


async def test_without_traffic_nothing_changes(runtime: Runtime, tenant: TenantId) -> None:
    await deployed(runtime, tenant, body(), body(traffic=False))
    assert (await asked(runtime, "GET", f"/{tenant}/rates"))[1]["traffic"] == {"1": 100}


async def test_traffic_is_shared_out_and_rolled_back(runtime: Runtime, tenant: TenantId) -> None:
    await deployed(runtime, tenant, body(), body())
    for revision in (1, 2):
        await answering(runtime, tenant, revision)
    path = f"/{tenant}/rates"
    _, told = await asked(runtime, "PUT", f"{path}/traffic", b'{"traffic": {"1": 90, "2": 10}}')
    assert told["serving"] == {"1": 90, "2": 10}
    _, told = await asked(runtime, "POST", f"{path}/rollback")
    assert told["serving"] == {"1": 100}
    assert (await asked(runtime, "POST", f"{path}/rollback"))[0] == 409


@pytest.mark.parametrize(
    ("traffic", "status"),
    [
        ('{"1": 50}', 422),
        ('{"1": 101}', 422),
        ('{"1": 150, "2": -50}', 422),
        ('{"1": 100, "2": 0}', 422),
        ("{}", 422),
        ('{"one": 100}', 422),
        ('{"9": 100}', 404),
    ],
)
async def test_traffic_that_is_none_is_refused(runtime: Runtime, tenant: TenantId, traffic: str, status: int) -> None:
    await deployed(runtime, tenant, body(), body())
    said = b'{"traffic": %s}' % traffic.encode()
    assert (await asked(runtime, "PUT", f"/{tenant}/rates/traffic", said))[0] == status


@pytest.mark.parametrize("change", ["archive", "base64", "manifest", "asks", "route", "more"])
async def test_a_bundle_that_breaks_a_rule_is_not_stored(runtime: Runtime, tenant: TenantId, change: str) -> None:
    document = json.loads(body())
    if change == "archive":
        document["archive"] = base64.b64encode(packed(files()) + b"more").decode()
    elif change == "base64":
        document["archive"] = "§§§"
    elif change == "manifest":
        document["manifest"] = {}
    elif change == "asks":
        document["manifest"]["asks"] = ["ControlDatabase"]
    elif change == "route":
        document["manifest"]["routes"][0]["path"] = "/v1/documents"
    else:
        document["manifest"]["secrets"] = ["root"]
    assert (await asked(runtime, "POST", f"/{tenant}", json.dumps(document).encode()))[0] == 422
    assert (await asked(runtime, "GET", f"/{tenant}"))[1] == {"functions": []}


async def test_a_tenant_has_so_many_functions_and_no_more(runtime: Runtime, tenant: TenantId) -> None:
    await deployed(runtime, tenant, *(body(f"f{number}") for number in range(FUNCTIONS_MAX)))
    assert (await asked(runtime, "POST", f"/{tenant}", body("one_more")))[0] == 413
    assert (await asked(runtime, "DELETE", f"/{tenant}/f0"))[0] == 204
    assert (await asked(runtime, "POST", f"/{tenant}", body("one_more")))[0] == 201


async def test_a_tenant_has_so_many_bytes_and_no_more(
    runtime: Runtime, tenant: TenantId, control: ControlDatabase
) -> None:
    await deployed(runtime, tenant, body())
    await control.execute("UPDATE own_revisions SET archive = $1", b"0" * STORED_BYTES_MAX)
    assert (await asked(runtime, "POST", f"/{tenant}", body("other")))[0] == 413


async def test_old_revisions_go_but_not_those_with_calls(runtime: Runtime, tenant: TenantId) -> None:
    await deployed(runtime, tenant, body(), *[body(traffic=False)] * (REVISIONS_KEPT + 1))
    _, told = await asked(runtime, "GET", f"/{tenant}/rates")
    kept = [one["revision"] for one in told["revisions"]]
    assert kept == [*range(REVISIONS_KEPT + 2, 2, -1), 1]


async def test_a_deleted_functions_bundle_differs_from_that_of_a_new_one_of_its_name(
    runtime: Runtime, tenant: TenantId
) -> None:
    digests = []
    for table in ("RATES = {}\n", "RATES = {'usd': 1}\n"):
        await deployed(runtime, tenant, body(table=table))
        digests.append((await asked(runtime, "GET", f"/{tenant}/rates/revisions/1"))[1]["digest"])
        assert (await asked(runtime, "DELETE", f"/{tenant}/rates"))[0] == 204
    assert digests[0] != digests[1]
    assert (await asked(runtime, "DELETE", f"/{tenant}/rates"))[0] == 404


@pytest.mark.parametrize("role", ["admin", "member", "viewer"])
async def test_a_tenant_changes_nothing_and_sees_its_own_only(runtime: Runtime, tenant: TenantId, role: str) -> None:
    await deployed(runtime, tenant, body())
    for method, path, content in (
        ("POST", "", body()),
        ("PUT", "/rates/traffic", b'{"traffic": {"1": 100}}'),
        ("POST", "/rates/rollback", b"{}"),
        ("DELETE", "/rates", b"{}"),
        ("GET", "/rates/revisions/1", b""),
    ):
        assert (await asked(runtime, method, f"/{tenant}{path}", content, role=role, tenant=tenant))[0] == 403
    may_look = {"admin": 200}.get(role, 403)
    assert (await asked(runtime, "GET", f"/{tenant}", role=role, tenant=tenant))[0] == may_look
    assert (await asked(runtime, "GET", f"/{tenant}", role="admin", tenant="globex"))[0] == 404


async def test_every_change_is_in_the_audit_log(runtime: Runtime, tenant: TenantId, control: ControlDatabase) -> None:
    await deployed(runtime, tenant, body())
    await answering(runtime, tenant, 1)
    await asked(runtime, "PUT", f"/{tenant}/rates/traffic", b'{"traffic": {"1": 100}}')
    await asked(runtime, "DELETE", f"/{tenant}/rates")
    told = b"".join(bytes(row["record"]) for row in await control.fetch("SELECT record FROM audit_outbox"))
    for operation in (b"deploy", b"serve", b"share_traffic", b"delete"):
        assert b"integrations-plugins." + operation in told
    assert f"tenant/{tenant}/function/rates".encode() in told


@pytest.mark.parametrize("address", ["", "file:///etc", "http://a/path", "http://a b", "127.0.0.1:80", "http://u@h/x"])
async def test_an_address_is_an_origin(runtime: Runtime, tenant: TenantId, address: str) -> None:
    await deployed(runtime, tenant, body())
    content = json.dumps({"address": address}).encode()
    assert (await asked(runtime, "PUT", f"/{tenant}/rates/revisions/1/address", content))[0] == 422


async def test_a_tenant_with_functions_of_its_own_is_not_moved(
    runtime: Runtime, tenant: TenantId, control: ControlDatabase
) -> None:
    await deployed(runtime, tenant, body())
    async with control.transaction() as transaction:
        with pytest.raises(Conflict, match="rates"):
            await refuse_any(transaction, tenant)


async def test_only_a_tenant_that_is_there_and_ready_gets_functions(
    runtime: Runtime, tenant: TenantId, control: ControlDatabase
) -> None:
    assert (await asked(runtime, "POST", "/nobody", body()))[0] == 404
    await control.execute("UPDATE tenants SET state = 'suspended' WHERE id = $1", tenant)
    try:
        assert (await asked(runtime, "POST", f"/{tenant}", body()))[0] == 409
    finally:
        await control.execute("UPDATE tenants SET state = 'ready' WHERE id = $1", tenant)


async def test_what_is_to_run_is_told_with_its_digest(
    runtime: Runtime, tenant: TenantId, control: ControlDatabase
) -> None:
    await deployed(runtime, tenant, body(), body(traffic=False))
    _, told = await asked(runtime, "GET", f"/{tenant}/rates/revisions/1")
    assert await own.wanted(control) == [(tenant, "rates", 1, told["digest"])]


async def test_a_process_ends_only_when_no_calls_go_to_it(
    runtime: Runtime, tenant: TenantId, control: ControlDatabase
) -> None:
    await deployed(runtime, tenant, body(), body())
    await answering(runtime, tenant, 1)
    (first,) = [one for one in await own.wanted(control) if one.revision == 2]
    async with control.transaction() as transaction:
        assert not await own.retire(transaction, first)
    await asked(runtime, "PUT", f"/{tenant}/rates/traffic", b'{"traffic": {"1": 100}}')
    async with control.transaction() as transaction:
        assert await own.retire(transaction, first)

    await asked(runtime, "PUT", f"/{tenant}/rates/traffic", b'{"traffic": {"2": 100}}')

    _, told = await asked(runtime, "GET", f"/{tenant}/rates")
    assert told["serving"] == {"1": 100}, "an ended process gets no calls before it is started again"


async def test_calls_wait_with_a_reason_while_all_processes_start_anew(
    runtime: Runtime, tenant: TenantId, control: ControlDatabase
) -> None:
    await deployed(runtime, tenant, body())
    await answering(runtime, tenant, 1)
    await own.forget_addresses(control)
    answer = await runtime.call("GET", "/v1/own/rates/usd", tenant=tenant, role="member")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert (await runtime.call("GET", "/v1/own/rates/usd", tenant="globex", role="member")).status_code == 404
