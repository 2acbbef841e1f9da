"""What the tenant's database holds of compression: whose prompts are compressed, what was put aside, what was saved."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic

from shared.compression.modes import MODES, Mode, Original
from shared.errors import NotFound
from shared.identity import Caller
from shared.ids import TenantId
from shared.postgres import TenantDatabase
from shared.remembering import Remembered
from shared.secrets import TenantSecrets
from shared.telemetry import log
from shared.usage.batches import GroupCommit

PURPOSE = "compression"
KEPT_S = 24 * 3600
"""A client that goes on with its conversation sends the result again, and its time begins anew."""
RENEWED_AFTER_S = 3600.0
REMEMBERED_S, REMEMBERED_MAX = 0.8, 2000
KNOWN_MAX = 20_000
GATHER_S = 0.05
CLOSE_TIMEOUT_S = 5.0
KEEP = """
INSERT INTO compression_originals (id, owner, sealed, expires_at)
SELECT id, $2, sealed, now() + make_interval(secs => $4) FROM unnest($1::text[], $3::bytea[]) AS told (id, sealed)
ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at
"""
FIND = "SELECT sealed FROM compression_originals WHERE id = $1 AND owner = $2 AND expires_at > now()"
SAVE = """
INSERT INTO compression_savings
       (request_id, key_id, model, modes, original_bytes, sent_bytes, saved_tokens, saved_micro_usd)
SELECT request_id, key_id, model, modes, original_bytes, sent_bytes, saved_tokens, saved_micro_usd
  FROM json_to_recordset($1::json) AS told (request_id text, key_id text, model text, modes text[],
       original_bytes bigint, sent_bytes bigint, saved_tokens bigint, saved_micro_usd bigint)
ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True)
class Saving:
    """What one call's prompt was shortened by; bytes of text, tokens as estimated."""

    request_id: str
    key_id: str | None
    model: str
    modes: Sequence[Mode]
    original_bytes: int
    sent_bytes: int
    saved_tokens: int
    saved_micro_usd: int | None


class Compression:
    """The process's way to all tenants' settings, originals and savings."""

    def __init__(self) -> None:
        self._keys = Remembered[TenantId, Mapping[str, frozenset[Mode]]](fresh_s=REMEMBERED_S, kept_max=REMEMBERED_MAX)
        self._known: OrderedDict[tuple[TenantId, str], float] = OrderedDict()
        self._saving = GroupCommit(write_savings, name="compression savings", gather_s=GATHER_S)

    async def modes_of(self, tenant: TenantDatabase, caller: Caller) -> frozenset[Mode]:
        """How the prompts of the caller's key are compressed, or else of the first that it was rotated from, as it was
        less than a second ago. Raises `Problem`."""
        keys = await self._keys.get(tenant.tenant, lambda: stored_modes(tenant))
        if not keys:
            return frozenset()
        return keys.get(caller.key_id or "", keys.get(caller.owner, frozenset()))

    async def keep(
        self, tenant: TenantDatabase, sealing: TenantSecrets, owner: str, originals: Sequence[Original]
    ) -> None:
        """Have the originals in the database, for a day from now; those written within the hour are there already.
        Raises `Problem`."""
        began = monotonic()
        fresh = [
            one for one in originals if began - self._known.get((tenant.tenant, one.id), -KEPT_S) > RENEWED_AFTER_S
        ]
        if not fresh:
            return
        sealed = [await sealing.seal(f"{PURPOSE}:{one.id}", one.text.encode("utf-8", "surrogatepass")) for one in fresh]
        await tenant.execute(KEEP, [one.id for one in fresh], owner, sealed, KEPT_S)
        self._known.update(((tenant.tenant, one.id), began) for one in fresh)
        while len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)

    def save(self, tenant: TenantDatabase, saving: Saving) -> None:
        """Have it written soon. Nothing waits for it, and a process that dies takes the last ones with it."""
        written = self._saving.put((tenant, saving))
        written.add_done_callback(partial(told_if_lost, saving.request_id))

    async def close(self) -> None:
        await self._saving.close(CLOSE_TIMEOUT_S)


def told_if_lost(request_id: str, written: asyncio.Future[None]) -> None:
    if not written.cancelled() and (failure := written.exception()) is not None:
        log("compression_saving_lost", request_id=request_id, error=type(failure).__name__)


async def stored_modes(tenant: TenantDatabase) -> Mapping[str, frozenset[Mode]]:
    rows = await tenant.fetch("SELECT key, modes FROM compression_keys")
    return {row["key"]: frozenset(mode for mode in MODES if mode in row["modes"]) for row in rows}


async def original(tenant: TenantDatabase, sealing: TenantSecrets, owner: str, original_id: str) -> str:
    """What was put aside for this owner. Raises `NotFound`, also for what is another's or whose time is over."""
    sealed = await tenant.fetchval(FIND, original_id, owner)
    if sealed is None:
        raise NotFound(f"nothing is put aside under {original_id[:60]!r}", param="original")
    return (await sealing.open(f"{PURPOSE}:{original_id}", bytes(sealed))).decode("utf-8", "surrogatepass")


def original_id(sealing: TenantSecrets, owner: str, text: str) -> str:
    """The same for the same text of the same owner: 80 bits, hex."""
    return sealing.fingerprint(PURPOSE, f"{owner}\0{text}".encode("utf-8", "surrogatepass"))[:20]


async def write_savings(batch: Sequence[tuple[TenantDatabase, Saving]]) -> Sequence[None]:
    by_tenant: defaultdict[TenantId, list[tuple[TenantDatabase, Saving]]] = defaultdict(list)
    for tenant, saving in batch:
        by_tenant[tenant.tenant].append((tenant, saving))
    for rows in by_tenant.values():
        await rows[0][0].execute(SAVE, json.dumps([vars(saving) for _, saving in rows]))
    return [None] * len(batch)
