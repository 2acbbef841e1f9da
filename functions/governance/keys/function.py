"""Virtual keys: create, list, rotate and revoke them."""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import BaseModel, Field

from functions.governance.keys import rights
from shared.clock import Clock
from shared.errors import NotFound
from shared.function import Call, Function, Scale
from shared.function.schema import Body
from shared.identity import Caller
from shared.postgres import ControlDatabase, ControlTransaction
from shared.quotas.making import GROUPS_MAX, TAGS_MAX, Limit, check_unlimited, checked_tags, insert_quota, owner_marks
from shared.settings import Settings
from shared.tenancy.meant import meant

keys = Function(scale=Scale(max=5))

LIMITS_MAX = 10
YEAR_S = 366 * 24 * 3600


class Ownership(Body):
    """Whose a key is. Limits of the member and of each group hold for it, and its usage is put down to them."""

    member: str = Field(default="", max_length=100)
    """A person or program, by a name of yours or an e-mail address; in lower case."""
    groups: list[str] = Field(default_factory=list, max_length=GROUPS_MAX)


class NewKeyRequest(Ownership):
    """What the key may do. Left out, it may do all that its role may."""

    name: str = Field(default="", max_length=100)
    role: str = "member"
    permissions: list[str] | None = Field(default=None, max_length=50)
    models: list[str] | None = Field(default=None, max_length=200)
    expires_in_s: int | None = Field(default=None, ge=1, le=10 * YEAR_S)
    tags: list[str] = Field(default_factory=list, max_length=TAGS_MAX)
    """To whom or what its usage is put down."""
    limits: list[Limit] = Field(default_factory=list, max_length=LIMITS_MAX)
    """What it may use; also in `/v1/quotas`."""


class Rotation(Body):
    overlap_s: int = Field(default=0, ge=0, le=30 * 24 * 3600)


class KeyView(BaseModel):
    id: str
    tenant: str
    name: str
    role: str
    permissions: list[str] | None
    models: list[str] | None
    member: str
    groups: list[str]
    tags: list[str]
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class CreatedKey(KeyView):
    """`key` is shown here and never again."""

    key: str


class KeyList(BaseModel):
    keys: list[KeyView]


@keys.post("/v1/keys", permission="keys:write", success=201, shown_once=True)
async def create_key(
    body: NewKeyRequest,
    transaction: ControlTransaction,
    caller: Caller,
    settings: Settings,
    clock: Clock,
    call: Call,
    tenant: str = "",
) -> CreatedKey:
    """Create a key. It never grants more than its creator has, nor for longer. `?tenant=` is for operators."""
    owner = await meant(transaction, caller, tenant)
    rights.check_grant(caller, role=body.role, permissions=body.permissions, models=body.models, owner=owner)
    await check_unlimited(transaction, caller)
    expires = clock.now() + timedelta(seconds=body.expires_in_s) if body.expires_in_s else None
    tags = [*checked_tags(body.tags), *owner_marks(body.member, body.groups)]
    wanted = rights.Wanted(owner, body.name, body.role, body.permissions, body.models, expires, tags)
    row, text = await rights.issue(transaction, settings, caller, wanted)
    for limit in body.limits:
        await insert_quota(transaction, caller, owner, "key", row["id"], limit)
    call.note(resource=f"key/{row['id']}", tenant=owner, role=body.role)
    return CreatedKey(**row, key=text)


@keys.get("/v1/keys", permission="keys:read")
async def list_keys(control: ControlDatabase, caller: Caller, tenant: str = "") -> KeyList:
    """List a tenant's keys: when each was last used, never the key itself."""
    owner = await meant(control, caller, tenant)
    return KeyList(keys=[KeyView(**row) for row in await rights.keys_of(control, owner)])


@keys.put("/v1/keys/{key}/owner", permission="keys:write")
async def give_key(
    key: str, body: Ownership, transaction: ControlTransaction, caller: Caller, call: Call, tenant: str = ""
) -> KeyView:
    """Say whose a key is, in place of whose it was. In force everywhere within a second; calls of before stay put down
    to whose it was."""
    owner = await meant(transaction, caller, tenant)
    await check_unlimited(transaction, caller)
    row = await rights.give(transaction, owner, key, marks=owner_marks(body.member, body.groups))
    if row is None:
        raise NotFound(f"there is no key {key[:40]!r}")
    call.note(resource=f"key/{key}", tenant=owner, member=row["member"], groups=row["groups"])
    return KeyView(**row)


@keys.post("/v1/keys/{key}/rotate", permission="keys:write", success=201, shown_once=True)
async def rotate_key(
    key: str,
    body: Rotation,
    transaction: ControlTransaction,
    caller: Caller,
    settings: Settings,
    call: Call,
    tenant: str = "",
) -> CreatedKey:
    """Replace a key by a new one with the same rights. The old one stays valid for the overlap."""
    owner = await meant(transaction, caller, tenant)
    old = await rights.valid_key(transaction, owner, key)
    rights.check_grant(caller, role=old.role, permissions=old.permissions, models=old.models, owner=owner)
    row, text = await rights.issue(transaction, settings, caller, old)
    await rights.retire(transaction, key, replaced_by=row["id"], overlap_s=body.overlap_s)
    call.note(resource=f"key/{key}", tenant=owner, replaced_by=row["id"], overlap_s=body.overlap_s)
    return CreatedKey(**row, key=text)


@keys.delete("/v1/keys/{key}", permission="keys:write")
async def revoke_key(key: str, transaction: ControlTransaction, caller: Caller, call: Call, tenant: str = "") -> None:
    """Revoke a key. It stops working everywhere within one second."""
    owner = await meant(transaction, caller, tenant)
    if not await rights.revoke(transaction, owner, key):
        raise NotFound(f"there is no key {key[:40]!r}")
    call.note(resource=f"key/{key}", tenant=owner)
