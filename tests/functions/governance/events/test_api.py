"""Dead letters through the runtime."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

from shared.events import CloudEvent
from shared.events.dead_letters import bury
from shared.ids import TenantId
from shared.postgres import ControlDatabase
from shared.settings import Settings
from tests.fixtures.runtime import serving_function


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
