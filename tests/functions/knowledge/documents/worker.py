"""Ingests one document in a process of its own, for tests that kill it: `worker.py TENANT NAME EVENT_ID`."""

from __future__ import annotations

import asyncio
import sys

from functions.knowledge.documents.ingest import Ingest
from functions.knowledge.documents.parsing import Parsers
from shared.embeddings import Embeddings
from shared.function.resources import TenantBuckets
from shared.ids import TenantId
from shared.objects import ObjectStore
from shared.postgres import ControlDatabase, Databases
from shared.secrets import read_key
from shared.settings import Settings
from shared.tenancy import TenantRegistry


async def main(tenant: TenantId, name: str, event_id: str) -> None:
    settings = Settings.from_environment()
    store = ObjectStore(settings)
    control = ControlDatabase(settings.postgres_url, Databases(connections_max=4))
    registry = TenantRegistry(control, read_key(settings, "root"), buckets=TenantBuckets(store, settings))
    database = await registry.database(tenant)
    await Ingest(database, store.tenant(tenant), Embeddings(), Parsers()).converge(name, event_id)


if __name__ == "__main__":
    asyncio.run(main(TenantId(sys.argv[1]), sys.argv[2], sys.argv[3]))
