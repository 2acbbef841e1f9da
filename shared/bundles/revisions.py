"""A tenant's own functions and their revisions: rows of the control database, and what may be done with them.

A wish and its fulfilment are two facts, as with dedications: the traffic that somebody asks for becomes the traffic
that is served once each revision of it answers. Until then the revisions before go on serving.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from shared.bundles.manifest import Manifest
from shared.bundles.signing import Sealed, manifest_in, sealed
from shared.errors import Conflict, Invalid, NotFound, TooLarge
from shared.ids import TenantId
from shared.postgres import ControlDatabase, ControlTransaction
from shared.tenancy.dedications import check_origin

FUNCTIONS_MAX = 10
"""Of one tenant."""
STORED_BYTES_MAX = 8 * 1024 * 1024
"""Of all kept revisions of one tenant's functions."""
REVISIONS_KEPT = 10
"""Of one function; what has traffic is kept beside."""
REVISION_MAX = 2**31 - 1
"""What PostgreSQL's `integer` holds."""
FAILURE_CHARS_MAX = 2000

Traffic = Mapping[int, int]
Queries = ControlDatabase | ControlTransaction


@dataclass(frozen=True)
class OwnFunction:
    """One function of one tenant. `traffic` is wished, `serving` is so: revision → per cent."""

    tenant: TenantId
    name: str
    traffic: Traffic
    serving: Traffic
    changed_at: datetime


@dataclass(frozen=True)
class Revision:
    """One revision, without its archive."""

    tenant: TenantId
    name: str
    revision: int
    manifest: Manifest
    digest: str
    address: str | None
    failure: str | None
    created_by: str
    created_at: datetime
    archive_bytes: int


class Wanted(NamedTuple):
    """A revision that is to run. `digest` tells it from one of a deleted function of the same name."""

    tenant: TenantId
    name: str
    revision: int
    digest: str


@dataclass(frozen=True)
class Kept:
    """A revision with all that is needed to run it."""

    tenant: TenantId
    name: str
    revision: int
    sealed: Sealed = field(repr=False)
    address: str | None

    @property
    def manifest(self) -> Manifest:
        return manifest_in(self.sealed.statement)


async def add(
    transaction: ControlTransaction, tenant: TenantId, manifest: Manifest, archive: bytes, *, seed: bytes, by: str
) -> int:
    """Store a checked archive as the function's next revision, signed; nothing is sent to it. Returns its number.

    Raises `NotFound` for a tenant that is not there, `Conflict` for one that is not ready, `TooLarge` over its quota.
    """
    await lock(transaction, tenant)
    row = await transaction.fetchrow(
        "INSERT INTO own_functions (tenant, name, next_revision) VALUES ($1, $2, 2)"
        " ON CONFLICT (tenant, name) DO UPDATE SET next_revision = own_functions.next_revision + 1, changed_at = now()"
        " RETURNING next_revision - 1 AS revision",
        tenant,
        manifest.slug,
    )
    assert row is not None
    revision: int = row["revision"]
    made = sealed(archive, manifest, tenant=tenant, revision=revision, seed=seed)
    await transaction.execute(
        "INSERT INTO own_revisions (tenant, name, revision, statement, signature, archive, created_by)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7)",
        tenant,
        manifest.slug,
        revision,
        made.statement,
        made.signature,
        archive,
        by,
    )
    await prune(transaction, tenant, manifest.slug)
    await check_quota(transaction, tenant)
    return revision


async def lock(transaction: ControlTransaction, tenant: TenantId) -> None:
    """One change of a tenant's functions at a time. Raises `NotFound`, `Conflict`."""
    state = await transaction.fetchval("SELECT state FROM tenants WHERE id = $1 FOR UPDATE", tenant)
    if state is None:
        raise NotFound(f"there is no tenant {tenant[:64]!r}")
    if state != "ready":
        raise Conflict(f"tenant {tenant!r} is {state}; its functions change when it is ready")


async def prune(transaction: ControlTransaction, tenant: TenantId, name: str) -> None:
    """Forget the oldest revisions beyond those that are kept."""
    await transaction.execute(
        "DELETE FROM own_revisions r USING own_functions f WHERE r.tenant = $1 AND r.name = $2"
        " AND f.tenant = r.tenant AND f.name = r.name AND r.revision <= f.next_revision - 1 - $3"
        " AND NOT f.traffic ? r.revision::text AND NOT f.serving ? r.revision::text",
        tenant,
        name,
        REVISIONS_KEPT,
    )


async def check_quota(transaction: ControlTransaction, tenant: TenantId) -> None:
    held = await transaction.fetchrow(
        "SELECT count(DISTINCT name) AS functions, sum(length(archive)) AS bytes FROM own_revisions WHERE tenant = $1",
        tenant,
    )
    assert held is not None
    if held["functions"] > FUNCTIONS_MAX:
        raise TooLarge(f"tenant {tenant!r} has {FUNCTIONS_MAX} functions of its own, and may have no more")
    if held["bytes"] > STORED_BYTES_MAX:
        raise TooLarge(f"the revisions of tenant {tenant!r} would be over {STORED_BYTES_MAX} bytes; delete a function")


async def listed(queries: Queries, tenant: TenantId) -> list[OwnFunction]:
    rows = await queries.fetch(
        "SELECT tenant, name, traffic, serving, changed_at FROM own_functions WHERE tenant = $1 ORDER BY name", tenant
    )
    return [function_of(dict(row)) for row in rows]


async def found(queries: Queries, tenant: TenantId, name: str) -> OwnFunction:
    """Raises `NotFound`."""
    row = await queries.fetchrow(
        "SELECT tenant, name, traffic, serving, changed_at FROM own_functions WHERE tenant = $1 AND name = $2",
        tenant,
        name,
    )
    if row is None:
        raise NotFound(f"tenant {tenant[:64]!r} has no function {name[:64]!r} of its own")
    return function_of(dict(row))


async def revisions(queries: Queries, tenant: TenantId, name: str) -> list[Revision]:
    """The newest first."""
    rows = await queries.fetch(
        "SELECT tenant, name, revision, statement, encode(sha256(statement), 'hex') AS digest, address, failure,"
        " created_by, created_at, length(archive) AS archive_bytes FROM own_revisions"
        " WHERE tenant = $1 AND name = $2 ORDER BY revision DESC",
        tenant,
        name,
    )
    return [Revision(manifest=manifest_in(bytes(row["statement"])), **without(dict(row), "statement")) for row in rows]


async def kept(queries: Queries, tenant: TenantId, name: str, revision: int) -> Kept:
    """Raises `NotFound`."""
    row = (
        None
        if revision > REVISION_MAX
        else await queries.fetchrow(
            "SELECT archive, statement, signature, address FROM own_revisions"
            " WHERE tenant = $1 AND name = $2 AND revision = $3",
            tenant,
            name,
            revision,
        )
    )
    if row is None:
        raise NotFound(f"function {name[:64]!r} of tenant {tenant[:64]!r} has no revision {revision}")
    made = Sealed(*(bytes(row[part]) for part in ("archive", "statement", "signature")))
    return Kept(tenant, name, revision, made, row["address"])


async def wanted(queries: Queries) -> list[Wanted]:
    """Every revision of every tenant that calls go to, or are wished to go to."""
    rows = await queries.fetch(
        "SELECT tenant, name, revision, encode(sha256(statement), 'hex') AS digest FROM own_revisions r"
        " JOIN own_functions f USING (tenant, name) JOIN tenants t ON t.id = tenant"
        " WHERE t.state = 'ready' AND (f.traffic ? r.revision::text OR f.serving ? r.revision::text) ORDER BY 1, 2, 3"
    )
    return [Wanted(TenantId(row["tenant"]), row["name"], row["revision"], row["digest"]) for row in rows]


async def share(transaction: ControlTransaction, tenant: TenantId, name: str, traffic: Traffic) -> OwnFunction:
    """Wish how calls are shared out. Raises `NotFound` for a revision that is not kept, `Invalid`, `Conflict`."""
    await lock(transaction, tenant)
    await found(transaction, tenant, name)
    check_traffic(traffic)
    there = {one.revision for one in await revisions(transaction, tenant, name)}
    if missing := sorted(set(traffic) - there):
        raise NotFound(f"function {name!r} of tenant {tenant!r} has no revision {missing[0]}")
    await transaction.execute(
        "UPDATE own_functions SET traffic = $3, changed_at = now() WHERE tenant = $1 AND name = $2",
        tenant,
        name,
        as_json(traffic),
    )
    await transaction.execute(
        "UPDATE own_revisions SET failure = NULL WHERE tenant = $1 AND name = $2 AND revision = ANY($3)",
        tenant,
        name,
        list(traffic),
    )
    await settle(transaction, tenant, name)
    return await found(transaction, tenant, name)


def check_traffic(traffic: Traffic) -> None:
    if not traffic or any(not 1 <= percent <= 100 for percent in traffic.values()) or sum(traffic.values()) != 100:
        raise Invalid("traffic is whole per cents from 1 to 100 that add up to 100")


async def answers(transaction: ControlTransaction, tenant: TenantId, name: str, revision: int, address: str) -> None:
    """Say where a revision's process answers. Raises `NotFound`, and `Invalid` for what is no origin."""
    check_origin(address)
    await mark(transaction, tenant, name, revision, address=address, failure=None)
    await settle(transaction, tenant, name)


async def fails(transaction: ControlTransaction, tenant: TenantId, name: str, revision: int, why: str) -> None:
    """Say that a revision does not start, and why. Raises `NotFound`."""
    text = why[-FAILURE_CHARS_MAX:].replace("\x00", "")
    await mark(transaction, tenant, name, revision, address=None, failure=text)


async def retire(transaction: ControlTransaction, one: Wanted) -> bool:
    """Forget where the revision answers, so that its process can end; unless calls go to it again. Returns whether."""
    await transaction.fetchval("SELECT true FROM tenants WHERE id = $1 FOR UPDATE", one.tenant)
    if one in await wanted(transaction):
        return False
    await transaction.execute(
        "UPDATE own_revisions SET address = NULL WHERE tenant = $1 AND name = $2 AND revision = $3"
        " AND encode(sha256(statement), 'hex') = $4",
        *one,
    )
    return True


async def forget_addresses(control: ControlDatabase) -> None:
    """Say that nothing answers any more: who starts all processes anew does so before."""
    await control.execute("UPDATE own_revisions SET address = NULL WHERE address IS NOT NULL")


async def mark(
    transaction: ControlTransaction,
    tenant: TenantId,
    name: str,
    revision: int,
    *,
    address: str | None,
    failure: str | None,
) -> None:
    changed = revision <= REVISION_MAX and await transaction.execute(
        "UPDATE own_revisions SET address = $4, failure = $5 WHERE tenant = $1 AND name = $2 AND revision = $3",
        tenant,
        name,
        revision,
        address,
        failure,
    )
    if changed != "UPDATE 1":
        raise NotFound(f"function {name[:64]!r} of tenant {tenant[:64]!r} has no revision {revision}")


async def settle(transaction: ControlTransaction, tenant: TenantId, name: str) -> None:
    """Share calls out as it was wished, if every revision of that answers."""
    await transaction.execute(
        "UPDATE own_functions f SET serving = traffic WHERE tenant = $1 AND name = $2 AND serving <> traffic"
        " AND NOT EXISTS (SELECT FROM jsonb_object_keys(f.traffic) k LEFT JOIN own_revisions r"
        " ON r.tenant = f.tenant AND r.name = f.name AND r.revision = k::int WHERE r.address IS NULL)",
        tenant,
        name,
    )


async def delete(transaction: ControlTransaction, tenant: TenantId, name: str) -> None:
    """Forget the function with all its revisions. Raises `NotFound`."""
    if not await transaction.fetchval(
        "DELETE FROM own_functions WHERE tenant = $1 AND name = $2 RETURNING true", tenant, name
    ):
        raise NotFound(f"tenant {tenant[:64]!r} has no function {name[:64]!r} of its own")


def before(traffic: Traffic, there: Iterable[int]) -> int:
    """The revision to go back to: the newest one older than the newest with traffic. Raises `Conflict`."""
    newest = max(traffic, default=0)
    older = [one for one in there if one < newest]
    if not older:
        raise Conflict("there is no older revision to go back to")
    return max(older)


def function_of(row: Mapping[str, Any]) -> OwnFunction:  # Any: a database row
    return OwnFunction(
        TenantId(row["tenant"]), row["name"], as_traffic(row["traffic"]), as_traffic(row["serving"]), row["changed_at"]
    )


def as_traffic(said: Mapping[str, int]) -> dict[int, int]:
    return {int(revision): percent for revision, percent in said.items()}


def as_json(traffic: Traffic) -> dict[str, int]:
    return {str(revision): percent for revision, percent in sorted(traffic.items())}


def without(row: Mapping[str, Any], name: str) -> dict[str, Any]:  # Any: a database row
    return {key: value for key, value in row.items() if key != name}
