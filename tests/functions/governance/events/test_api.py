"""Dead letters through the runtime."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from shared.events import CloudEvent, to_http
from shared.events.dead_letters import bury
from shared.identity import TOKEN_EXTENSION, Tokens
from shared.ids import TenantId
from shared.postgres import ControlDatabase
from shared.settings import Settings
from tests.fixtures.runtime import Runtime, serving_function


async def test_an_admin_reads_and_redrives_its_tenants_letter_and_nobody_elses(settings: Settings) -> None:
    tenant = TenantId(f"t{uuid4().hex[:8]}")
    event = CloudEvent(str(uuid4()), "/t", "dcoder.t", "x", tenant, datetime.now(UTC), {"a": 1})
    async with serving_function("governance-events", settings) as runtime:
        control = await runtime.application.process.get(ControlDatabase)
        await bury(control, event, function="knowledge-documents", reason="invalid: no", attempts=1, last_status=422)

        listed = await runtime.call("GET", "/v1/dead-letters", tenant=tenant, role="admin")
        [letter] = listed.json()["dead_letters"]
        assert letter["event"]["id"] == event.id
        path = f"/v1/dead-letters/{letter['id']}"
        assert (await runtime.call("GET", path, tenant=tenant, role="admin")).json() == letter
        assert (await runtime.call("GET", path, tenant="somebody", role="admin")).status_code == 404
        assert (await runtime.call("POST", f"{path}/redrive", tenant="somebody", role="admin")).status_code == 404
        assert (await runtime.call("POST", f"{path}/redrive", tenant=tenant, role="member")).status_code == 403

        redriven = await runtime.call("POST", f"{path}/redrive", tenant=tenant, role="admin")
        assert redriven.status_code == 202
        assert redriven.json()["redrives"] == 1
        audited = await control.fetchval("SELECT count(*) FROM audit_outbox WHERE tenant = $1", str(tenant))
        assert audited >= 1


async def test_a_bad_id_or_limit_is_refused(settings: Settings) -> None:
    async with serving_function("governance-events", settings) as runtime:
        for path in ("/v1/dead-letters/1", "/v1/dead-letters?limit=0", "/v1/dead-letters?before=x"):
            assert (await runtime.call("GET", path, tenant="acme", role="admin")).status_code == 422
        unknown = await runtime.call("GET", f"/v1/dead-letters/{uuid4()}", tenant="acme", role="admin")
        assert unknown.status_code == 404


def given_up(event: CloudEvent, code: str, data: str) -> CloudEvent:
    """The event as a Broker sends it to its dead letter sink."""
    added = {
        "knativeerrordest": "http://knowledge.dcoder.svc.cluster.local/events/knowledge-documents",
        "knativeerrorcode": code,
        "knativeerrordata": data,
        "knativearrivaltime": "2026-01-01T00:00:00Z",
        "knativebrokerttl": "254",
    }
    return replace(event, extensions={**event.extensions, **{name: text for name, text in added.items() if text}})


async def sent(runtime: Runtime, event: CloudEvent, function: str = "knowledge-documents") -> int:
    headers, body = to_http(event)
    return (await runtime.client.post(f"/dead-letters/{function}", headers=headers, content=body)).status_code


async def signed(runtime: Runtime, tenant: str) -> CloudEvent:
    event = CloudEvent(str(uuid4()), "/t", "dcoder.t", "x", TenantId(tenant), datetime.now(UTC), {"a": 1})
    return (await runtime.application.process.get(Tokens)).sign_event(event)


@pytest.mark.parametrize(
    ("code", "data", "reason", "status", "attempts"),
    [
        ("503", b64encode(b'{"code":"unavailable"}').decode(), 'answered 503: {"code":"unavailable"}', 503, 12),
        ("422", "not base64!", "answered 422: not base64!", 422, 1),
        ("", "", "did not take it", None, 12),
        ("-1", "", "did not take it", None, 12),
    ],
)
async def test_what_a_broker_gave_up_is_kept_listed_and_redriven_like_our_own(
    settings: Settings, code: str, data: str, reason: str, status: int | None, attempts: int
) -> None:
    tenant = f"t{uuid4().hex[:8]}"
    async with serving_function("governance-events", settings) as runtime:
        event = await signed(runtime, tenant)
        assert await sent(runtime, given_up(event, code, data)) == 204
        assert await sent(runtime, given_up(event, code, data)) == 204, "a broker may tell twice"

        listed = await runtime.call("GET", "/v1/dead-letters", tenant=tenant, role="admin")
        [letter] = listed.json()["dead_letters"]
        assert letter["reason"] == f"knowledge-documents {reason}"
        assert (letter["function"], letter["last_status"], letter["attempts"]) == (
            "knowledge-documents", status, attempts,
        )  # fmt: skip
        assert not any(name.startswith("knative") or name == TOKEN_EXTENSION for name in letter["event"])
        path = f"/v1/dead-letters/{letter['id']}/redrive"
        assert (await runtime.call("POST", path, tenant=tenant, role="admin")).status_code == 202

        assert await sent(runtime, given_up(event, code, data)) == 204
        again = await runtime.call("GET", f"/v1/dead-letters/{letter['id']}", tenant=tenant, role="admin")
        assert again.json()["redriven_at"] is None, "it died again, so it may be driven again"


async def test_a_dead_letter_that_we_did_not_sign_or_that_names_no_function_is_refused(settings: Settings) -> None:
    tenant = f"t{uuid4().hex[:8]}"
    async with serving_function("governance-events", settings) as runtime:
        event = await signed(runtime, tenant)
        assert await sent(runtime, replace(event, data={"a": 2})) == 401
        assert await sent(runtime, replace(event, extensions={})) == 401
        for function in ("", "A", "a/b", "x" * 64):
            assert await sent(runtime, event, function) in (400, 404)
        listed = await runtime.call("GET", "/v1/dead-letters", tenant=tenant, role="admin")
        assert listed.json()["dead_letters"] == []


async def test_only_the_keeper_takes_dead_letters(settings: Settings) -> None:
    async with serving_function("knowledge-documents", settings) as runtime:
        assert await sent(runtime, await signed(runtime, "acme")) == 404
