"""Guardrails, which alert only: what is looked for in what is said to and by a tenant's models, and what was found."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, Field, StringConstraints, field_validator

from shared.errors import Invalid, NotFound
from shared.function import Call, Function, Scale, Tick
from shared.function.schema import Body
from shared.postgres import TenantDatabase, TenantTransaction

guardrails = Function(scale=Scale(max=5))

PAGE_MAX = 200
PHRASES_MAX = 500
KEPT_DAYS = 90
Kind = Literal["secret", "personal_data", "prompt_injection", "jailbreak"]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_]{0,62}$")]
Phrase = Annotated[str, StringConstraints(min_length=3, max_length=200)]
ALERT = "id, at, request_id, key_id, direction, kind, rule, path, start_at, end_at, fingerprint"
PAGE = f"""
SELECT {ALERT} FROM guardrail_alerts
WHERE $1::uuid IS NULL OR (at, id) < (SELECT at, id FROM guardrail_alerts WHERE id = $1)
ORDER BY at DESC, id DESC LIMIT $2
"""


class OwnRule(Body):
    """A rule of the tenant's own: any of these texts, in upper or lower case."""

    name: Name
    phrases: list[Phrase] = Field(min_length=1, max_length=100)

    @field_validator("phrases")
    @classmethod
    def can_be_stored(cls, value: list[str]) -> list[str]:
        if any("\0" in one for one in value):
            raise ValueError("must not hold a null character")
        return value


class Guards(Body):
    """What is looked for. `kinds`: of the built-in rules."""

    kinds: list[Kind] = Field(max_length=4)
    rules: list[OwnRule] = Field(default=[], max_length=50)


class Alert(BaseModel):
    """Where something was found: characters `start` to `end` of the text at the JSON pointer `path` of the call's
    request or answer. The same text has the same `fingerprint`, in this tenant only."""

    id: UUID
    at: datetime
    request_id: str
    key_id: str | None
    direction: str
    kind: str
    rule: str
    path: str
    start: int = Field(validation_alias="start_at")
    end: int = Field(validation_alias="end_at")
    fingerprint: str


class Alerts(BaseModel):
    alerts: list[Alert]
    next: UUID | None


@guardrails.get("/v1/guardrails", permission="guardrails:read")
async def get_guardrails(tenant: TenantDatabase) -> Guards:
    """What is looked for. Nothing, until somebody says what."""
    row = await tenant.fetchrow("SELECT kinds, rules FROM guardrails")
    return Guards(**row) if row else Guards(kinds=[])


@guardrails.put("/v1/guardrails", permission="guardrails:write")
async def put_guardrails(body: Guards, transaction: TenantTransaction, call: Call) -> Guards:
    """Say what is to be looked for, in place of what was. It takes effect within five seconds."""
    check(body.rules)
    await transaction.execute(
        "INSERT INTO guardrails (kinds, rules) VALUES ($1, $2)"
        " ON CONFLICT (one) DO UPDATE SET kinds = excluded.kinds, rules = excluded.rules, updated_at = now()",
        sorted(set(body.kinds)),
        [one.model_dump() for one in body.rules],
    )
    call.note(resource="guardrails", kinds=sorted(set(body.kinds)), rules=[one.name for one in body.rules])
    return body.model_copy(update={"kinds": sorted(set(body.kinds))})


@guardrails.get("/v1/guardrails/alerts", permission="guardrails:read")
async def list_alerts(tenant: TenantDatabase, limit: int = 50, before: UUID | None = None) -> Alerts:
    """What was found, newest first. `before` continues a list."""
    if not 1 <= limit <= PAGE_MAX:
        raise Invalid(f"limit is 1 to {PAGE_MAX}, not {limit}")
    if before is not None and not await tenant.fetchval("SELECT true FROM guardrail_alerts WHERE id = $1", before):
        raise NotFound(f"there is no alert {str(before)!r}")
    alerts = [Alert.model_validate(dict(row)) for row in await tenant.fetch(PAGE, before, limit)]
    return Alerts(alerts=alerts, next=alerts[-1].id if len(alerts) == limit else None)


@guardrails.every("23 3 * * *", per="tenant")
async def forget_past(tick: Tick, tenant: TenantTransaction) -> None:
    """Forget alerts after ninety days."""
    await tenant.execute("DELETE FROM guardrail_alerts WHERE at < now() - make_interval(days => $1)", KEPT_DAYS)


def check(rules: Sequence[OwnRule]) -> None:
    """Raises `Invalid`."""
    names = [one.name for one in rules]
    if len(set(names)) != len(names):
        raise Invalid("two rules have the same name")
    if (count := sum(len(one.phrases) for one in rules)) > PHRASES_MAX:
        raise Invalid(f"all rules together have at most {PHRASES_MAX} phrases, not {count}")
