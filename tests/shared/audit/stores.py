"""A control and a tenant database with outboxes and logs, and what sealing and exporting them needs."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from functions.governance.audit import log
from shared.audit.checkpoint import AuditSigner
from shared.audit.sealer import SealedBatch, seal
from shared.audit.verify import Verdict, verify_export
from shared.ids import TenantId
from shared.postgres import ControlDatabase, Databases, TenantDatabase
from shared.secrets import read_key
from shared.settings import Settings
from tests.fixtures.control import control_database
from tests.fixtures.servers import write_key_files

ACME = TenantId("acme")


@dataclass
class Anchored:
    """An anchor that remembers what it was given."""

    notes: list[str] = field(default_factory=list)

    async def __call__(self, tenant: TenantId, size: int, note: str) -> None:
        self.notes.append(note)


@dataclass(frozen=True)
class Stores:
    """Tenant `acme` with a database of its own, beside a control database."""

    control: ControlDatabase
    own: TenantDatabase
    own_dsn: str
    settings: Settings
    folder: Path
    anchored: Anchored = field(default_factory=Anchored)

    @property
    def signer(self) -> AuditSigner:
        return AuditSigner(read_key(self.settings, "audit"))

    async def write(self, count: int, *, at: TenantDatabase | ControlDatabase | None = None) -> None:
        """That many changes of acme, each in a transaction of its own."""
        for number in range(count):
            async with (at or self.own).transaction() as transaction:
                await transaction.audit("documents.upload", f"document/{number}", actor="key:one", tenant=ACME)

    async def seal(self) -> SealedBatch:
        return await seal(ACME, self.own, self.control, signer=self.signer, anchor=self.anchored)

    async def export(self) -> Path:
        path = self.folder / f"{secrets.token_hex(4)}.jsonl"
        path.write_bytes(b"".join([line async for line in log.export(self.own, ACME, self.signer)]))
        return path

    async def verdict(self, *, trusted: Sequence[str] | None = None) -> Verdict:
        """What the verifier says of an export made now."""
        notes = list(self.anchored.notes) if trusted is None else trusted
        return verify_export(await self.export(), public_key=self.signer.public_key, trusted_checkpoints=notes)

    async def sealed(self) -> list[UUID]:
        return [row["id"] for row in await self.own.fetch("SELECT id FROM audit_log ORDER BY seq")]

    async def waiting(self) -> list[UUID]:
        """The records in both outboxes."""
        query = "SELECT id FROM audit_outbox WHERE tenant = $1"
        return [row["id"] for one in (self.own, self.control) for row in await one.fetch(query, ACME)]


@asynccontextmanager
async def stores(admin_url: str, folder: Path) -> AsyncIterator[Stores]:
    async with control_database(admin_url) as control, control_database(admin_url) as other:
        own_dsn = other.dsn
        databases = Databases(connections_max=8)
        try:
            own = TenantDatabase(ACME, own_dsn, databases)
            yield Stores(control, own, own_dsn, settings_of(control.dsn, folder), folder)
        finally:
            await databases.close()


def settings_of(dsn: str, folder: Path) -> Settings:
    nowhere = "http://127.0.0.1:9"
    return Settings(
        postgres_url=dsn,
        redis_url="redis://127.0.0.1:9",
        nats_url="nats://127.0.0.1:9",
        objects_url=nowhere,
        objects_access_key="none",
        objects_secret_key="none",
        platform_url=nowhere,
        llm_url=nowhere,
        secrets_dir=write_key_files(folder / "secrets"),
    )
