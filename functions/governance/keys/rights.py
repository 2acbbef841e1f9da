"""Whose keys a caller may touch, what it may grant, and the statements behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from shared.access import KEY_ROLES, ROLES, may_grant
from shared.errors import Forbidden, Invalid, NotFound
from shared.function.declaration import PERMISSION
from shared.identity import Caller
from shared.ids import PLATFORM, TenantId
from shared.postgres import ControlTransaction
from shared.quotas.limits import lineage_tag, named_by
from shared.secrets import read_key
from shared.settings import Settings
from shared.virtual_keys import insert_key, new_key

COLUMNS = (
    "id, tenant, name, role, permissions, models, tags, created_by, created_at, expires_at, revoked_at, last_used_at"
)


class Queries(Protocol):
    """A control database or a transaction on it."""

    async def fetch(self, sql: str, *arguments: object) -> list[Any]: ...
    async def fetchrow(self, sql: str, *arguments: object) -> Any: ...
    async def fetchval(self, sql: str, *arguments: object) -> Any: ...


@dataclass(frozen=True)
class Wanted:
    """A key to be made."""

    tenant: TenantId
    name: str
    role: str
    permissions: list[str] | None
    models: list[str] | None
    expires_at: datetime | None
    tags: Sequence[str] = ()


def check_grant(
    caller: Caller, *, role: str, permissions: list[str] | None, models: list[str] | None, owner: TenantId
) -> None:
    """Refuse a key that is malformed, or that could do what its creator cannot. Raises `Invalid` or `Forbidden`.

    A tenant's keys are what an operator's `keys:write` is for; another operator's key is narrowed like any.
    """
    if role not in KEY_ROLES:
        raise Invalid(f"{role[:40]!r} is not a role; there are {', '.join(KEY_ROLES)}")
    if (role == "operator") != (owner == PLATFORM):
        raise Forbidden("operators belong to the platform, every other role to a tenant")
    wrong = [one for one in permissions or [] if not PERMISSION.fullmatch(one.replace("*", "any"))]
    if wrong:
        raise Invalid(f"{wrong[0][:60]!r} is not a permission of the form 'documents:read'")
    if caller.role == "operator" and owner != PLATFORM:
        return
    asked = ROLES[role] if permissions is None else frozenset(permissions)
    excess = sorted(one for one in asked if not may_grant(caller, one, role=role))
    if excess:
        raise Forbidden(f"{caller.subject} does not hold {excess[0]!r} itself, so it cannot grant it")
    if caller.models is not None and (models is None or not set(models) <= caller.models):
        raise Forbidden(f"{caller.subject} may use some models only, and can grant no others")


async def issue(
    transaction: ControlTransaction, settings: Settings, caller: Caller, wanted: Wanted
) -> tuple[dict[str, Any], str]:
    """Make and store a key, which ends no later than its creator's. Returns its row and, once, its text."""
    key = new_key(read_key(settings, "pepper"))
    ends = [one for one in (wanted.expires_at, await end_of_grants(transaction, caller, wanted.tenant)) if one]
    await insert_key(
        transaction,
        key,
        tenant=wanted.tenant,
        name=wanted.name,
        role=wanted.role,
        created_by=caller.subject,
        permissions=wanted.permissions,
        models=wanted.models,
        tags=wanted.tags,
        expires_at=min(ends, default=None),
    )
    row = await transaction.fetchrow(f"SELECT {COLUMNS} FROM virtual_keys WHERE id = $1", key.id)
    assert row is not None
    return view(dict(row)), key.text


def view(row: Mapping[str, Any]) -> dict[str, Any]:  # Any: a database row
    """The row with whose key it is told apart from its tags."""
    tags: list[str] = row["tags"]
    owners = {"member": next(iter(named_by(tags, "member")), ""), "groups": named_by(tags, "group")}
    return {**row, **owners, "tags": [tag for tag in tags if not tag.startswith(("member:", "group:"))]}


async def end_of_grants(transaction: ControlTransaction, caller: Caller, owner: TenantId) -> datetime | None:
    """When the keys that this caller makes must have ended: with its own. A tenant's key may outlive an operator's."""
    if caller.role == "operator" and owner != PLATFORM:
        return None
    ends: datetime | None = await transaction.fetchval(
        "SELECT expires_at FROM virtual_keys WHERE id = $1", caller.key_id
    )
    return ends


async def keys_of(queries: Queries, tenant: TenantId) -> list[Mapping[str, Any]]:
    rows = await queries.fetch(
        f"SELECT {COLUMNS} FROM virtual_keys WHERE tenant = $1 ORDER BY created_at DESC LIMIT 1000",
        tenant,
    )
    return [view(row) for row in rows]


async def valid_key(transaction: ControlTransaction, tenant: TenantId, key: str) -> Wanted:
    """What a key of this tenant grants, for another that its limits hold for.

    Raises `NotFound` when it is foreign, unknown, revoked or expired.
    """
    row = await transaction.fetchrow(
        "SELECT name, role, permissions, models, expires_at, tags FROM virtual_keys"
        " WHERE id = $1 AND tenant = $2 AND revoked_at IS NULL AND replaced_by IS NULL"
        " AND (expires_at IS NULL OR expires_at > now()) FOR UPDATE",
        key,
        tenant,
    )
    if row is None:
        raise NotFound(f"there is no key {key[:40]!r} that could be rotated")
    tags: list[str] = row["tags"]
    if not named_by(tags, "key"):
        tags = [*tags, lineage_tag(key)]
    return Wanted(tenant, row["name"], row["role"], row["permissions"], row["models"], row["expires_at"], tags)


async def give(
    transaction: ControlTransaction, tenant: TenantId, key: str, *, marks: Sequence[str]
) -> dict[str, Any] | None:  # Any: a database row
    """Put a key that is not revoked down to these members and groups, and to no others. None when there is none."""
    row = await transaction.fetchrow(
        "UPDATE virtual_keys SET tags = $3 || ARRAY(SELECT tag FROM unnest(tags) tag WHERE tag !~ '^(member|group):')"
        f" WHERE id = $1 AND tenant = $2 AND revoked_at IS NULL RETURNING {COLUMNS}",
        key,
        tenant,
        list(marks),
    )
    return None if row is None else view(dict(row))


async def retire(transaction: ControlTransaction, key: str, *, replaced_by: str, overlap_s: int) -> None:
    await transaction.execute(
        "UPDATE virtual_keys SET replaced_by = $2,"
        " expires_at = least(expires_at, now() + make_interval(secs => $3)) WHERE id = $1",
        key,
        replaced_by,
        overlap_s,
    )


async def revoke(transaction: ControlTransaction, tenant: TenantId, key: str) -> bool:
    """Whether there was such a key that was not revoked yet."""
    found = await transaction.fetchval(
        "UPDATE virtual_keys SET revoked_at = now()"
        " WHERE id = $1 AND tenant = $2 AND revoked_at IS NULL RETURNING true",
        key,
        tenant,
    )
    return bool(found)
