"""Answers of models that were given before: kept sealed in Redis, under a keyed hash of all that was asked.

Two requests have one key only if tenant, route, provider, model and every member of the body are the same; the order of
the body's own members and its white space do not count. What is nested keeps its order: a model may heed that of a
schema's properties.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.errors import Fault
from shared.ids import TenantId
from shared.postgres import TenantDatabase, TenantTransaction
from shared.redis import CacheServer, Leases
from shared.remembering import Remembered
from shared.secrets import TenantSecrets
from shared.telemetry import log

if TYPE_CHECKING:
    from shared.llm.thresholds import Label

PURPOSE = "answer-cache"
TTL_S, TTL_S_MAX = 3600, 30 * 86400
WRONG_SHARE_MAX = 0.01
LABELS_MAX = 2000
KEPT_BYTES_MAX = 900 * 1024
REMEMBERED_S, REMEMBERED_MAX = 0.8, 2000


@dataclass(frozen=True)
class Setting:
    """What a tenant wants."""

    enabled: bool = False
    ttl_s: int = TTL_S
    epoch: int = 0
    semantic: bool = False
    wrong_share_max: float = WRONG_SHARE_MAX


@dataclass(frozen=True)
class Kept:
    """An answer as it was given. `at`: seconds since 1970. `cost`: micro-USD, None when it is not known."""

    content_type: str
    body: bytes
    at: int
    cost: int | None

    def packed(self) -> bytes:
        head = {"content_type": self.content_type, "at": self.at, "cost": self.cost}
        return json.dumps(head).encode() + b"\n" + self.body


def unpacked(packed: bytes) -> Kept:
    head, _, body = packed.partition(b"\n")
    told = json.loads(head)
    return Kept(told["content_type"], body, told["at"], told["cost"])


class Answers:
    """The process's way to all tenants' answers. While Redis is away, none is found and none is kept."""

    def __init__(self, server: CacheServer, leases: Leases) -> None:
        self._server, self._leases = server, leases
        self.flights: dict[tuple[TenantId, str], object] = {}
        """The gateway's: calls that are being made, by tenant and key."""
        self._settings = Remembered[TenantId, Setting](fresh_s=REMEMBERED_S, kept_max=REMEMBERED_MAX)
        self._labels = Remembered[tuple[TenantId, str], "list[Label]"](fresh_s=REMEMBERED_S, kept_max=REMEMBERED_MAX)

    async def setting(self, tenant: TenantDatabase) -> Setting:
        """As it was less than a second ago. Raises `Problem`."""
        return await self._settings.get(tenant.tenant, lambda: stored(tenant))

    async def threshold(self, tenant: TenantDatabase, application: str) -> float:
        """From which similarity on an answer is given in this application, as of less than a second ago."""
        from shared.llm.thresholds import learned

        labels = await self._labels.get((tenant.tenant, application), lambda: labelled(tenant, application))
        return learned(labels, (await self.setting(tenant)).wrong_share_max)

    async def find(self, sealing: TenantSecrets, key: str) -> Kept | None:
        """None when there is none that can be read: whoever can write to Redis must not make calls fail."""
        sealed = await self._server.tenant(sealing.tenant).get(key)
        if sealed is None:
            return None
        try:
            return unpacked(await sealing.open(f"{PURPOSE}:{key}", sealed))
        except (Fault, ValueError, LookupError) as failure:
            log("kept_answer_unreadable", error=type(failure).__name__)
            return None

    async def keep(self, sealing: TenantSecrets, key: str, kept: Kept, ttl_s: int) -> bool:
        """Whether it is small enough to be kept."""
        packed = kept.packed()
        if len(packed) > KEPT_BYTES_MAX:
            return False
        await self._server.tenant(sealing.tenant).set(key, await sealing.seal(f"{PURPOSE}:{key}", packed), ttl_s)
        return True

    async def lease(self, tenant: TenantId, key: str, holder: str, value: str, ttl_s: float) -> str:
        """Of the call with that key, as `Leases.put` has it."""
        return await self._leases.put(tenant, f"asking:{key}", holder, value, ttl_s)

    async def close(self) -> None:
        await self._leases.close()


async def stored(tenant: TenantDatabase) -> Setting:
    row = await tenant.fetchrow("SELECT enabled, ttl_s, epoch, semantic, wrong_share_max FROM answer_cache")
    return Setting(**row) if row else Setting()


async def labelled(tenant: TenantDatabase | TenantTransaction, application: str) -> list[Label]:
    """What was said last of answers that this application was given in other words."""
    from shared.llm.thresholds import Label

    rows = await tenant.fetch(
        """
        SELECT similarity, correct FROM semantic_hits WHERE application = $1 AND correct IS NOT NULL
        ORDER BY at DESC LIMIT $2
        """,
        application, LABELS_MAX,
    )  # fmt: skip
    return [Label(**row) for row in rows]


def key_of(sealing: TenantSecrets, scope: Mapping[str, Any], body: Mapping[str, Any]) -> str:  # Any: JSON
    """The key of what was asked, in this tenant. `scope`: what decides about the answer beside the body."""
    asked = json.dumps([sorted(scope.items()), sorted(body.items())], ensure_ascii=False, separators=(",", ":"))
    return f"answer:{sealing.fingerprint(PURPOSE, asked.encode('utf-8', 'surrogatepass'))}"


def now_s() -> int:
    return int(time.time())
