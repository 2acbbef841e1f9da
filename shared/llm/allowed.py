"""Which models operators let a tenant use: `<host>/<model>`, with `*` for anything.

A host and not a provider's name, for tenants name their providers themselves.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from shared.ids import TenantId
from shared.postgres import ControlDatabase, ControlTransaction

PATTERN = re.compile(r"[a-z0-9.*:-]{1,253}/[!-~]{1,200}")
PATTERNS_MAX = 500


def is_allowed(patterns: Sequence[str], host: str, model: str) -> bool:
    """A host's pattern is compared with the host alone: a model's name may have slashes."""
    return any(
        compiled(of_host).fullmatch(host) is not None and compiled(of_model).fullmatch(model) is not None
        for of_host, _, of_model in (one.partition("/") for one in patterns)
    )


@lru_cache(maxsize=4096)
def compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)


async def allowed_models(queries: ControlDatabase | ControlTransaction, tenant: TenantId) -> tuple[str, ...] | None:
    """None when that is everything. Raises `Problem`."""
    models = await queries.fetchval("SELECT models FROM allowed_models WHERE tenant = $1", tenant)
    return None if models is None else tuple(models)


async def allow_models(transaction: ControlTransaction, tenant: TenantId, models: Sequence[str]) -> None:
    await transaction.execute(
        "INSERT INTO allowed_models (tenant, models) VALUES ($1, $2)"
        " ON CONFLICT (tenant) DO UPDATE SET models = excluded.models, changed_at = now()",
        tenant,
        sorted(set(models)),
    )


async def allow_all_models(transaction: ControlTransaction, tenant: TenantId) -> None:
    await transaction.execute("DELETE FROM allowed_models WHERE tenant = $1", tenant)
