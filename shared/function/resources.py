"""How each process-wide resource is opened. The one place where parts are put together."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from uuid import uuid4

from shared.audit import PENDING
from shared.audit.checkpoint import AuditSigner
from shared.embeddings import Embeddings
from shared.events import CloudEvent, Events, Relay
from shared.events.publishing import Carrier
from shared.function.after_commit import Coalesced
from shared.function.denials import Denials
from shared.function.invoke import FunctionClient
from shared.function.process import Opener, Process
from shared.identity import Identity, Tokens
from shared.ids import PLATFORM, TenantId
from shared.llm.outbound import Providers
from shared.objects import ObjectStore
from shared.postgres import ControlDatabase, Databases
from shared.quotas import SCRIPT, Counters, Meter
from shared.redis import CacheServer, Script
from shared.secrets import read_key
from shared.settings import Settings
from shared.tenancy import TenantRegistry
from shared.virtual_keys import VirtualKeys

SEAL_DELAY_S = 0.15


class AfterCommit:
    """Publishes and announces what transactions left in their outboxes."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._relaying = Coalesced(self._relay, delay_s=0.0)
        self._announcing = Coalesced(self._announce, delay_s=SEAL_DELAY_S)

    def committed(self, tenant: TenantId, emitted: bool, audited: bool) -> None:
        if emitted:
            self._relaying.ask(tenant)
        if audited:
            self._announcing.ask(tenant)

    async def close(self) -> None:
        await self._relaying.close()
        await self._announcing.close()

    async def _relay(self, tenant: TenantId) -> None:
        relay = await self._process.get(Relay)
        if tenant == PLATFORM:
            await relay.drain(await self._process.get(ControlDatabase))
        else:
            await relay.drain(await (await self._process.get(TenantRegistry)).database(tenant))

    async def _announce(self, tenant: TenantId) -> None:
        events = await self._process.get(Events)
        await events.publish(
            CloudEvent(
                id=f"audit-pending-{uuid4()}",
                source="/dcoder/audit",
                type=PENDING,
                subject=str(tenant),
                tenant=tenant,
                time=datetime.now(UTC),
                data={},
            )
        )


async def open_databases(process: Process) -> Databases:
    after = AfterCommit(process)
    databases = Databases(connections_max=process.settings.connections_max)
    databases.on_commit.append(after.committed)
    return databases


async def open_control(process: Process) -> ControlDatabase:
    return ControlDatabase(process.settings.postgres_url, await process.get(Databases))


class TenantBuckets:
    """The sagas' view of the object store."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def ensure_bucket(self, tenant: TenantId) -> None:
        await self._store.tenant(tenant).ensure_bucket()

    async def destroy_bucket(self, tenant: TenantId) -> None:
        await self._store.tenant(tenant).destroy_bucket()


async def open_registry(process: Process) -> TenantRegistry:
    control = await process.get(ControlDatabase)
    buckets = TenantBuckets(await process.get(ObjectStore))
    forgetful = (await process.get(CacheServer), await process.get(Events))
    return TenantRegistry(
        control,
        read_key(process.settings, "root"),
        buckets=buckets,
        forgetful=forgetful,
        servers=process.settings.postgres_servers,
    )


async def open_keys(process: Process) -> VirtualKeys:
    return VirtualKeys(await process.get(ControlDatabase), read_key(process.settings, "pepper"))


async def open_identity(process: Process) -> Identity:
    keys, tokens = await process.get(VirtualKeys), await process.get(Tokens)
    return Identity(keys, tokens, read_key(process.settings, "hooks"))


async def open_tokens(process: Process) -> Tokens:
    return Tokens(read_key(process.settings, "tokens"), process.clock)


async def open_denials(process: Process) -> Denials:
    return Denials(await process.get(ControlDatabase))


async def open_client(process: Process) -> FunctionClient:
    return FunctionClient(process.settings, await process.get(Tokens))


async def open_objects(process: Process) -> ObjectStore:
    return ObjectStore(process.settings)


async def open_cache(process: Process) -> CacheServer:
    return CacheServer(process.settings.redis_url)


async def open_relay(process: Process) -> Relay:
    return Relay(await process.get(Events))


async def open_events(process: Process) -> Events:
    tokens = await process.get(Tokens)
    return Events(carrier_of(process.settings), sign=tokens.sign_event)


def carrier_of(settings: Settings) -> Carrier:
    """The Broker where there is one, else the stream."""
    if settings.broker_url:
        from shared.events.broker import Broker

        return Broker(settings.broker_url)
    from shared.events.stream import Stream

    return Stream(settings.nats_url)


async def open_signer(process: Process) -> AuditSigner:
    return AuditSigner(read_key(process.settings, "audit"))


async def open_embeddings(process: Process) -> Embeddings:
    return Embeddings()


async def open_meter(process: Process) -> Meter:
    counters = Counters(Script(process.settings.redis_url, SCRIPT))
    return Meter(await process.get(ControlDatabase), counters, process.clock)


async def open_providers(process: Process) -> Providers:
    return Providers(private=process.settings.private_provider_urls)


OPENERS: Mapping[type, Opener] = {
    Databases: open_databases,
    ControlDatabase: open_control,
    TenantRegistry: open_registry,
    VirtualKeys: open_keys,
    Identity: open_identity,
    Tokens: open_tokens,
    Denials: open_denials,
    FunctionClient: open_client,
    ObjectStore: open_objects,
    CacheServer: open_cache,
    Relay: open_relay,
    Events: open_events,
    AuditSigner: open_signer,
    Embeddings: open_embeddings,
    Meter: open_meter,
    Providers: open_providers,
}
