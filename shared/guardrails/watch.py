"""Beside the traffic: what passes is put into a bounded queue, looked through in small steps, and told as alerts.

Whoever puts something in neither waits nor fails. What does not fit is not looked at, which is logged; a detector that
fails is logged too. So the traffic is the same with guardrails and without.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

from shared.events import CloudEvent
from shared.guardrails.rules import BUILT_IN, Rule, phrases
from shared.guardrails.scanning import SLICE_CHARS, Finding, Scan
from shared.guardrails.texts import deltas, texts
from shared.ids import KeyId, TenantId
from shared.llm import sse
from shared.postgres import TenantDatabase
from shared.secrets import TenantSecrets
from shared.telemetry import log

ALERTED = "dcoder.guardrail.alerted"
QUEUE_BYTES_MAX = 8 * 1024 * 1024
BODY_BYTES_MAX = 1024 * 1024
"""Of a request or whole answer: parsing a larger one would hold up the traffic."""
TEXTS_MAX = 64
"""Texts of one stream that are looked at: choices, tool calls, blocks."""
ALERTS_MAX = 100
"""Of one call and direction."""
KNOWN_FOR_S = 5.0
CLOSE_TIMEOUT_S = 5.0
INSERT = """
INSERT INTO guardrail_alerts (request_id, key_id, direction, kind, rule, path, start_at, end_at, fingerprint)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""
Direction = Literal["request", "answer"]
Step = Callable[["Watched"], Iterator[None]]
"""Looks through a part of what was put in. Yields after each small step, so that others have their turn."""


@dataclass(frozen=True)
class Alert:
    path: str
    finding: Finding


@dataclass
class Watched:
    """One direction of one call."""

    guardrails: Guardrails
    tenant: TenantDatabase
    sealing: TenantSecrets
    request_id: str
    key_id: KeyId | None
    direction: Direction
    rules: Sequence[Rule] = ()
    alerts: int = 0
    lost: bool = False
    found: list[Alert] = field(default_factory=list)
    _events: sse.Events = field(default_factory=sse.Events)
    _scans: dict[str, Scan] = field(default_factory=dict)

    def body(self, content: object, size: int) -> None:
        """A parsed body of that many bytes. It must not be changed afterwards."""
        self._put(lambda watched: watched._texts(content), size, BODY_BYTES_MAX)

    def answer(self, raw: bytes) -> None:
        """A whole answer."""
        self._put(lambda watched: watched._texts(json.loads(raw)), len(raw), BODY_BYTES_MAX)

    def piece(self, raw: bytes) -> None:
        """The next bytes of a stream of events."""
        self._put(lambda watched: watched._deltas(raw), len(raw), QUEUE_BYTES_MAX)

    def ended(self) -> None:
        """The stream has ended."""
        self._put(lambda watched: watched._rest(), 0, 0)

    def _put(self, step: Step, size: int, size_max: int) -> None:
        if not self.lost and not self.guardrails.off(self.tenant.tenant):
            self.lost = size > size_max or not self.guardrails.put(self, step, size)
            if self.lost:
                log("guardrail_passed_over", request_id=self.request_id, direction=self.direction, bytes=size)

    def _texts(self, content: object) -> Iterator[None]:
        for path, text in texts(content):
            scan = Scan(self.rules)
            for start in range(0, len(text), SLICE_CHARS):
                self._note(path, scan.feed(text[start : start + SLICE_CHARS]))
                yield
            self._note(path, scan.end())

    def _deltas(self, raw: bytes) -> Iterator[None]:
        for event in self._events.feed(raw):
            if not event.data.startswith(b"{"):
                continue
            for path, text in deltas(json.loads(event.data)):
                if path in self._scans or len(self._scans) < TEXTS_MAX:
                    self._note(path, self._scans.setdefault(path, Scan(self.rules)).feed(text))
                yield

    def _rest(self) -> Iterator[None]:
        for path, scan in self._scans.items():
            self._note(path, scan.end())
            yield

    def _note(self, path: str, findings: Iterator[Finding]) -> None:
        for finding in findings:
            if self.alerts < ALERTS_MAX:
                self.alerts += 1
                self.found.append(Alert(path, finding))


class Guardrails:
    """A process's queue and the one task that empties it."""

    def __init__(self, *, queue_bytes_max: int = QUEUE_BYTES_MAX) -> None:
        self._queue: deque[tuple[Watched, Step, int]] = deque()
        self._queue_bytes_max = queue_bytes_max
        self._queued_bytes = 0
        self._known: dict[TenantId, tuple[float, Sequence[Rule]]] = {}
        self._working: asyncio.Task[None] | None = None

    def watch(
        self,
        tenant: TenantDatabase,
        sealing: TenantSecrets,
        *,
        request_id: str,
        key_id: KeyId | None,
        direction: Direction,
    ) -> Watched:
        return Watched(self, tenant, sealing, request_id, key_id, direction)

    def off(self, tenant: TenantId) -> bool:
        """Whether the tenant is known to have no rules: then nothing of it need be queued."""
        known = self._known.get(tenant)
        return known is not None and not known[1] and known[0] >= asyncio.get_running_loop().time()

    def put(self, watched: Watched, step: Step, size: int) -> bool:
        """Whether there was room for it."""
        if self._queued_bytes + size > self._queue_bytes_max:
            return False
        self._queued_bytes += size
        self._queue.append((watched, step, size))
        if self._working is None or self._working.done():
            self._working = asyncio.get_running_loop().create_task(self._work(), name="guardrails")
        return True

    async def close(self) -> None:
        """Wait, for seconds, until what passed has been looked at."""
        if self._working is not None:
            await asyncio.wait({self._working}, timeout=CLOSE_TIMEOUT_S)

    async def _work(self) -> None:
        while self._queue:
            watched, step, size = self._queue.popleft()
            try:
                await self._look(watched, step)
            except Exception as failure:  # noqa: BLE001  the edge; its text could repeat what was said
                watched.lost = True
                log("guardrail_failed", request_id=watched.request_id, error=type(failure).__name__)
            self._queued_bytes -= size

    async def _look(self, watched: Watched, step: Step) -> None:
        watched.rules = await self._rules(watched.tenant)
        if not watched.rules:
            return
        for _ in step(watched):
            await asyncio.sleep(0)
        if watched.found:
            found, watched.found = watched.found, []
            await tell(watched, sorted(found, key=lambda one: (one.path, one.finding.start)))

    async def _rules(self, database: TenantDatabase) -> Sequence[Rule]:
        now = asyncio.get_running_loop().time()
        known = self._known.get(database.tenant)
        if known is None or known[0] < now:
            row = await database.fetchrow("SELECT kinds, rules FROM guardrails")
            known = (now + KNOWN_FOR_S, rules_of(row["kinds"], row["rules"]) if row else ())
            self._known = {one: kept for one, kept in self._known.items() if kept[0] >= now}
            self._known[database.tenant] = known
        return known[1]


def rules_of(kinds: Sequence[str], own: Sequence[Mapping[str, Any]]) -> tuple[Rule, ...]:
    """The built-in rules of these kinds, and the tenant's own."""
    built_in = [one for one in BUILT_IN if one.kind in kinds]
    return (*built_in, *(phrases(one["name"], one["phrases"]) for one in own))


async def tell(watched: Watched, alerts: Sequence[Alert]) -> None:
    """Keep the alerts and announce them, in one transaction: where and which, never what was said."""
    told = [described(one, watched.sealing) for one in alerts]
    event = CloudEvent(
        id=f"guardrail-{uuid4()}",
        source="/dcoder/gateway-llm",
        type=ALERTED,
        subject=watched.request_id,
        tenant=watched.tenant.tenant,
        time=datetime.now(UTC),
        data={
            "request_id": watched.request_id,
            "key_id": watched.key_id,
            "direction": watched.direction,
            "alerts": told,
        },
    )
    async with watched.tenant.transaction() as transaction:
        of_call = (watched.request_id, watched.key_id, watched.direction)
        await transaction.executemany(INSERT, [(*of_call, *one.values()) for one in told])
        await transaction.emit(event)


def described(alert: Alert, sealing: TenantSecrets) -> dict[str, object]:
    finding = alert.finding
    return {
        "kind": finding.kind,
        "rule": finding.rule,
        "path": alert.path,
        "start": finding.start,
        "end": finding.end,
        "fingerprint": sealing.fingerprint("guardrails", finding.text.encode("utf-8", "surrogatepass")),
    }
