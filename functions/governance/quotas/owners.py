"""Which quotas a caller may change, and what a quota may be of."""

from __future__ import annotations

from functions.governance.quotas.views import NewQuota
from shared.errors import Forbidden, Invalid, NotFound
from shared.identity import Caller
from shared.ids import TenantId
from shared.postgres import ControlTransaction
from shared.quotas.making import TAG, check_unlimited, checked_owner, root_key

ID_MAX = 2**63 - 1


async def name_of(transaction: ControlTransaction, tenant: TenantId, wanted: NewQuota) -> str:
    """The name as it is stored. Raises `Invalid` or `NotFound`."""
    if (wanted.scope == "tenant") != (wanted.name == ""):
        raise Invalid("a quota of the tenant has no name; every other one has")
    if wanted.scope == "key":
        return await root_key(transaction, tenant, wanted.name)
    if wanted.scope in ("member", "group"):
        return checked_owner(wanted.name, wanted.scope)
    if wanted.scope == "tag" and not TAG.fullmatch(wanted.name):
        raise Invalid(f"{wanted.name[:64]!r} is not a tag: 1 to 63 of a-z, 0-9, dot, hyphen and underscore")
    return wanted.name


async def check_changeable(transaction: ControlTransaction, caller: Caller, tenant: TenantId, quota: int) -> None:
    """Raises `NotFound`, or `Forbidden` for an operator's quota and for a caller who is limited."""
    if not 0 < quota <= ID_MAX:
        raise NotFound(f"there is no quota {quota}")
    by_operator = await transaction.fetchval(
        "SELECT by_operator FROM quotas WHERE id = $1 AND tenant = $2 FOR UPDATE", quota, tenant
    )
    if by_operator is None:
        raise NotFound(f"there is no quota {quota}")
    if by_operator and caller.role != "operator":
        raise Forbidden("an operator has set this quota; operators change it")
    await check_unlimited(transaction, caller)
