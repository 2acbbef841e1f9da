"""Which revision of a tenant's own function a call goes to, where that answers, and what lets the call in."""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from starlette.routing import compile_path

from shared.bundles.manifest import Manifest, Path
from shared.bundles.revisions import as_traffic
from shared.bundles.signing import manifest_in
from shared.errors import MethodNotAllowed, NotFound
from shared.ids import TenantId
from shared.postgres import ControlDatabase

FRESH_S = 0.8
"""For so long at most a process goes by what it read before."""
KNOWN_MAX = 1000
"""Functions, of all tenants, that a process remembers."""


@dataclass(frozen=True)
class Target:
    """A revision that calls go to."""

    revision: int
    percent: int
    address: str | None
    """None while its process is started anew."""
    manifest: Manifest


@dataclass(frozen=True)
class Known:
    targets: Sequence[Target]
    at: float


class OwnFunctions:
    """What calls of tenants' own functions go to, read again when it is older than `FRESH_S`."""

    def __init__(self, control: ControlDatabase) -> None:
        self._control = control
        self._known: OrderedDict[tuple[TenantId, str], Known] = OrderedDict()

    async def targets(self, tenant: TenantId, name: str) -> Sequence[Target]:
        """The revisions that calls go to now; none when there is no such function, or none of it served yet."""
        known = self._known.get((tenant, name))
        if known is None or time.monotonic() - known.at >= FRESH_S:
            known = Known(await self._read(tenant, name), time.monotonic())
            self._known[tenant, name] = known
            while len(self._known) > KNOWN_MAX:
                self._known.popitem(last=False)
        return known.targets

    async def _read(self, tenant: TenantId, name: str) -> list[Target]:
        rows = await self._control.fetch(
            "SELECT r.revision, r.address, r.statement, f.serving FROM own_functions f JOIN own_revisions r"
            " USING (tenant, name) WHERE tenant = $1 AND name = $2 AND f.serving ? r.revision::text"
            " ORDER BY r.revision",
            tenant,
            name,
        )
        return [
            Target(row["revision"], share, row["address"], parsed(bytes(row["statement"])))
            for row in rows
            if (share := as_traffic(row["serving"])[row["revision"]])
        ]


@lru_cache(maxsize=KNOWN_MAX)
def parsed(statement: bytes) -> Manifest:
    return manifest_in(statement)


def chosen(targets: Sequence[Target], at: float) -> Target:
    """The revision that a call goes to. `at` is a number from 0 to below 1, by chance. Raises `NotFound`."""
    if not targets:
        raise NotFound("there is no such function")
    point = at * sum(one.percent for one in targets)
    for one in targets:
        point -= one.percent
        if point < 0:
            return one
    return targets[-1]


def route_of(manifest: Manifest, method: str, path: str) -> Path:
    """The declared route that a call is of. Raises `NotFound` or `MethodNotAllowed`."""
    found = [one for one in manifest.routes if pattern(one.path).match(path)]
    if not found:
        raise NotFound("there is nothing here")
    for one in found:
        if one.method == method:
            return one
    raise MethodNotAllowed(f"{method} is not allowed here; {', '.join(sorted({one.method for one in found}))} is")


@lru_cache(maxsize=KNOWN_MAX)
def pattern(path: str) -> re.Pattern[str]:
    """As the function's own process matches it."""
    return compile_path(path)[0]
