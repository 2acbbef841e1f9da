"""Which functions serve which tenant from a process of its own, and where: rows of the control database.

A wish and its fulfilment are two facts: an operator asks, and who can start processes (the local host, `kubectl` in an
operator's hands) says where the process answers. Only then are calls handed on, so nothing is handed to nobody.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from shared.errors import Conflict, Invalid, NotFound
from shared.ids import TenantId
from shared.postgres import ControlDatabase, ControlTransaction

if TYPE_CHECKING:
    from shared.objects import ObjectKey

COLUMNS = "tenant, function, state, address, asked_at, changed_at"
ORIGIN = re.compile(r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
ROWS_MAX = 10_000
FRESH_S = 0.8
"""For so long at most a process goes by what it read before. Who stops processes waits longer."""


@dataclass(frozen=True)
class Dedication:
    """One function of one tenant. `state` is asked, serving or ending; see the table."""

    tenant: TenantId
    function: str
    state: str
    address: str | None
    asked_at: datetime
    changed_at: datetime


@dataclass(frozen=True)
class Credentials:
    """What a process of one tenant holds, and all that it holds."""

    database_url: str = field(repr=False)
    """The tenant's own database as its own role."""
    data_key: bytes = field(repr=False)
    issuer_key: bytes
    """The public half of the platform's token key."""
    object_key: ObjectKey | None = None
    """Of the tenant's bucket and no other; None for a tenant that never needed one."""


async def listed(control: ControlDatabase | ControlTransaction, tenant: str = "") -> list[Dedication]:
    """A tenant's dedications, or everybody's."""
    rows = await control.fetch(
        f"SELECT {COLUMNS} FROM dedications WHERE $1 = '' OR tenant = $1 ORDER BY tenant, function LIMIT {ROWS_MAX}",
        tenant,
    )
    return [Dedication(**row) for row in rows]


async def found(transaction: ControlTransaction, tenant: TenantId, function: str) -> Dedication:
    """The dedication, locked. Raises `NotFound`."""
    row = await transaction.fetchrow(
        f"SELECT {COLUMNS} FROM dedications WHERE tenant = $1 AND function = $2 FOR UPDATE", tenant, function
    )
    if row is None:
        raise NotFound(f"function {function!r} is not dedicated to tenant {tenant!r}")
    return Dedication(**row)


async def ask(transaction: ControlTransaction, tenant: TenantId, function: str) -> Dedication:
    """Wish that the function serves the tenant from a process of its own. Asking again changes nothing.

    Raises `NotFound`, and `Conflict` for a tenant that is not ready: one that is moved changes its address.
    """
    state = await transaction.fetchval("SELECT state FROM tenants WHERE id = $1 FOR UPDATE", tenant)
    if state is None:
        raise NotFound(f"there is no tenant {tenant!r}")
    if state != "ready":
        raise Conflict(f"tenant {tenant!r} is {state}; a function can be dedicated to one that is ready")
    await transaction.execute(
        "INSERT INTO dedications (tenant, function) VALUES ($1, $2)"
        " ON CONFLICT (tenant, function) DO UPDATE SET state = 'asked', address = NULL, changed_at = now()"
        " WHERE dedications.state = 'ending'",
        tenant,
        function,
    )
    return await found(transaction, tenant, function)


async def serve_at(transaction: ControlTransaction, tenant: TenantId, function: str, address: str) -> Dedication:
    """Say where the process answers: calls and events are handed on from the next second on.

    Raises `NotFound`, `Invalid` for what is no origin, `Conflict` when it is to end.
    """
    check_origin(address)
    before = await found(transaction, tenant, function)
    if before.state == "ending":
        raise Conflict(f"function {function!r} is about to serve tenant {tenant!r} together with all others again")
    await transaction.execute(
        "UPDATE dedications SET state = 'serving', address = $3, changed_at = now()"
        " WHERE tenant = $1 AND function = $2 AND (state, address) IS DISTINCT FROM ('serving', $3)",
        tenant,
        function,
        address,
    )
    return await found(transaction, tenant, function)


def check_origin(address: str) -> None:
    """Raises `Invalid` for what is no origin."""
    if not ORIGIN.fullmatch(address):
        raise Invalid("address must be http(s)://host[:port] and nothing else")


async def end(transaction: ControlTransaction, tenant: TenantId, function: str) -> Dedication:
    """Let the pooled function serve the tenant again, from the next second on. Raises `NotFound`."""
    await found(transaction, tenant, function)
    await transaction.execute(
        "UPDATE dedications SET state = 'ending', changed_at = now()"
        " WHERE tenant = $1 AND function = $2 AND state <> 'ending'",
        tenant,
        function,
    )
    return await found(transaction, tenant, function)


async def forget(transaction: ControlTransaction, tenant: TenantId, function: str) -> None:
    """Say that the process is gone. Raises `NotFound`, `Conflict` for one that was not to end."""
    before = await found(transaction, tenant, function)
    if before.state != "ending":
        raise Conflict(f"function {function!r} of tenant {tenant!r} is {before.state}; end it first")
    await transaction.execute("DELETE FROM dedications WHERE tenant = $1 AND function = $2", tenant, function)


async def refuse_any(transaction: ControlTransaction, tenant: TenantId) -> None:
    """Raise `Conflict` for a tenant that has processes of its own: they know where its database is now."""
    functions = [one.function for one in await listed(transaction, tenant)]
    if functions:
        raise Conflict(
            f"tenant {tenant!r} has functions of its own ({', '.join(functions)}), which know its database's address. "
            f"End that first: dcoder tenant undedicate {tenant} {functions[0]}"
        )
    own = [row["name"] for row in await transaction.fetch("SELECT name FROM own_functions WHERE tenant = $1", tenant)]
    if own:
        raise Conflict(
            f"tenant {tenant!r} brought functions along ({', '.join(own)}), which know its database's address. "
            f"Delete them first, and deploy them again afterwards: dcoder functions rm {own[0]} --tenant {tenant} --yes"
        )


class Addresses:
    """Where to hand a tenant's calls and events to; read again when it is older than `FRESH_S`."""

    def __init__(self, control: ControlDatabase, functions: Sequence[str]) -> None:
        """Of these functions, or of all when none is named."""
        self._control = control
        self._functions = list(functions) or None
        self._known: Mapping[tuple[str, str], str] = {}
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    async def of(self, tenant: TenantId, function: str) -> str | None:
        """The address; None when the pooled function itself serves the tenant. Raises `Unavailable`."""
        if time.monotonic() - self._read_at >= FRESH_S:
            await self._read()
        return self._known.get((tenant, function))

    async def _read(self) -> None:
        async with self._reading:
            began = time.monotonic()
            if began - self._read_at < FRESH_S:
                return
            rows = await self._control.fetch(
                "SELECT tenant, function, address FROM dedications WHERE state = 'serving'"
                " AND ($1::text[] IS NULL OR function = ANY($1))",
                self._functions,
            )
            self._known = {(row["tenant"], row["function"]): row["address"] for row in rows}
            self._read_at = began
