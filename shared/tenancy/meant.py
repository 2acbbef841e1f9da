"""Whose things a call is about."""

from __future__ import annotations

from shared.errors import NotFound
from shared.identity import Caller
from shared.ids import TenantId
from shared.postgres import ControlDatabase, ControlTransaction


async def meant(queries: ControlDatabase | ControlTransaction, caller: Caller, named: str) -> TenantId:
    """The caller's own tenant, or for operators the named one. Raises `NotFound`."""
    if not named or named == caller.tenant:
        return caller.tenant
    known = caller.role == "operator" and await queries.fetchval(
        "SELECT true FROM tenants WHERE id = $1 AND state IN ('ready', 'moving')", named
    )
    if not known:
        raise NotFound(f"there is no tenant {named[:40]!r}")
    return TenantId(named)
