"""Limits as they are asked for over HTTP, and how they are stored."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, model_validator

from shared.errors import Conflict, Forbidden, Invalid, NotFound
from shared.function.schema import Body
from shared.identity import Caller
from shared.ids import TenantId
from shared.postgres import ControlTransaction
from shared.quotas.limits import AMOUNT_MAX, EVER, AtLimit, Metric, Scope, lineage_tag, mark_of, named_by, window_of
from shared.quotas.stored import QUOTAS_MAX

TAG = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
TAGS_MAX = 20
OWNER = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,99}")
GROUPS_MAX = 10
COLUMNS = "id, scope, name, metric, span, amount, hard, at_limit, by_operator, created_by, created_at"
RATES = ("requests", "tokens")


class Limit(Body):
    """So much of a metric in a window. Rates (requests, tokens) a minute or hour roll unless told otherwise; everything
    else goes by the calendar, in UTC. `parallel` has no window."""

    metric: Metric
    amount: int = Field(ge=0, le=AMOUNT_MAX)
    """Micro-USD (a millionth of a dollar), tokens, or calls."""
    window: Literal["minute", "hour", "day", "week", "month", "ever"] = "month"
    rolling: bool | None = None
    hard: bool = True
    """Whether calls beyond it are refused. A soft limit only counts."""
    at_limit: AtLimit = "finish"
    """What becomes of a stream that reaches it: `finish`, for which all that it may take is reserved before it begins,
    or `stop`, which ends it between two events when there is no more room."""

    @model_validator(mode="after")
    def fits_together(self) -> Limit:
        if self.at_limit == "stop" and not (self.hard and self.metric in ("micro_usd", "tokens")):
            raise ValueError("only a hard limit on money or tokens can stop a stream")
        if self.rolling and (self.window == EVER or self.metric == "parallel"):
            raise ValueError("what has no window cannot roll")
        return self

    @property
    def span(self) -> str:
        if self.metric == "parallel":
            return EVER
        by_default = self.metric in RATES and self.window in ("minute", "hour")
        return window_of(self.window, rolling=by_default if self.rolling is None else self.rolling)


async def insert_quota(
    transaction: ControlTransaction, caller: Caller, tenant: TenantId, scope: Scope, name: str, limit: Limit
) -> dict[str, Any]:  # Any: a database row
    """Store a limit. Raises `Conflict` when there is one like it, or too many."""
    if await transaction.fetchval("SELECT count(*) FROM quotas WHERE tenant = $1", tenant) >= QUOTAS_MAX:
        raise Conflict(f"tenant {tenant!r} has {QUOTAS_MAX} quotas, which is the most")
    row = await transaction.fetchrow(
        "INSERT INTO quotas (tenant, scope, name, metric, span, amount, hard, by_operator, created_by, at_limit)"
        f" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING RETURNING {COLUMNS}",
        tenant, scope, name, limit.metric, limit.span, limit.amount, limit.hard, caller.role == "operator",
        caller.subject, limit.at_limit,
    )  # fmt: skip
    if row is None:
        raise Conflict(f"there is a quota on {limit.metric} of that window for {scope} {name!r}; change its amount")
    return dict(row)


async def root_key(transaction: ControlTransaction, tenant: TenantId, key: str) -> str:
    """The key that this one was first rotated from, or itself. Raises `NotFound`."""
    tags = await transaction.fetchval("SELECT tags FROM virtual_keys WHERE id = $1 AND tenant = $2", key, tenant)
    if tags is None:
        raise NotFound(f"there is no key {key[:40]!r}")
    return next(iter(named_by(tags, "key")), key)


def checked_tags(tags: list[str]) -> list[str]:
    """Raises `Invalid`."""
    wrong = [tag for tag in tags if not TAG.fullmatch(tag)]
    if wrong:
        raise Invalid(f"{wrong[0][:64]!r} is not a tag: 1 to 63 of a-z, 0-9, dot, hyphen and underscore")
    return sorted(set(tags))


def checked_owner(name: str, what: str) -> str:
    """The name of a member or group as it is stored, in lower case. Raises `Invalid`."""
    lower = name.lower()
    if not OWNER.fullmatch(lower):
        raise Invalid(f"{name[:100]!r} cannot name a {what}: 1 to 100 of a-z, 0-9, dot, hyphen, underscore, @ and +")
    return lower


def owner_marks(member: str, groups: list[str]) -> list[str]:
    """The marks of whose a key is. Raises `Invalid`."""
    of_member = [mark_of("member", checked_owner(member, "member"))] if member else []
    return of_member + sorted({mark_of("group", checked_owner(group, "group")) for group in groups})


async def check_unlimited(transaction: ControlTransaction, caller: Caller) -> None:
    """A key that is limited itself makes no keys and changes no quotas: it would escape its limits."""
    if caller.key_id is None or caller.role == "operator":
        return
    limited = await transaction.fetchval(
        "SELECT true FROM quotas WHERE tenant = $1 AND ((scope IN ('key', 'member', 'group')"
        " AND scope || ':' || name = ANY($2)) OR (scope = 'tag' AND name = ANY($2))) LIMIT 1",
        caller.tenant,
        sorted({*caller.tags, lineage_tag(caller.key_id)}),
    )
    if limited:
        raise Forbidden(f"{caller.subject} is limited itself, so it can neither make keys nor change quotas")
