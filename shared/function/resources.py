"""How each process-wide resource is opened. The one place where parts are put together."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from uuid import uuid4

from shared.audit import PENDING
from shared.audit.checkpoint import AuditSigner
from shared.bundles.serving import OwnFunctions
from shared.compression.stored import Compression
from shared.embeddings import Embeddings
from shared.errors import Fault
from shared.events import CloudEvent, Events, Relay
from shared.events.publishing import Carrier
from shared.function.after_commit import Coalesced
from shared.function.catalog import Deployable
from shared.function.denials import Denials
from shared.function.forwarding import Forwarder
from shared.function.injection import of_no_one_tenant
from shared.function.invoke import FunctionClient
from shared.function.process import Opener, Process
from shared.function.tenants import database_of, own_database
from shared.guardrails import Guardrails
from shared.identity import Identity, Tokens, TokenVerifier
from shared.ids import PLATFORM, TenantId
from shared.llm.answers import Answers
from shared.llm.outbound import Providers
from shared.objects import ObjectKey, ObjectStore, bucket_of
from shared.postgres import ControlDatabase, Databases, TenantDatabase
from shared.quotas import SCRIPT, Counters, Meter
from shared.redis import CacheServer, Leases, ProcessMemory, Script
from shared.secrets import DataKey, TenantSecrets, read_key
from shared.settings import Settings
from shared.tenancy import TenantRegistry
from shared.tenancy.dedications import Addresses
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
            await relay.drain(await database_of(self._process, tenant))

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
    """The sagas' view of the object store. What makes keys is imported by who needs one."""

    def __init__(self, store: ObjectStore, settings: Settings) -> None:
        self._store = store
        self._settings = settings

    async def ensure_bucket(self, tenant: TenantId) -> None:
        await self._store.tenant(tenant).ensure_bucket()

    async def destroy_bucket(self, tenant: TenantId) -> None:
        await self._store.tenant(tenant).destroy_bucket()

    async def make_key(self, tenant: TenantId) -> ObjectKey | None:
        from shared.object_keys import maker_of

        maker = maker_of(self._settings)
        return await asyncio.to_thread(maker.make, bucket_of(tenant)) if maker else None

    async def end_key(self, tenant: TenantId) -> None:
        from shared.object_keys import maker_of

        if maker := maker_of(self._settings):
            await asyncio.to_thread(maker.end, bucket_of(tenant))

    async def accepts(self, tenant: TenantId, key: ObjectKey) -> bool:
        from shared.object_keys import accepted

        return await self._store.call(lambda _: accepted(self._settings.objects_url, key, bucket_of(tenant)))

    async def shown(self, key: ObjectKey) -> list[str]:
        from shared.object_keys import buckets_shown

        return await self._store.call(lambda _: buckets_shown(self._settings.objects_url, key))


async def open_registry(process: Process) -> TenantRegistry:
    control = await process.get(ControlDatabase)
    buckets = TenantBuckets(await process.get(ObjectStore), process.settings)
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
    return Denials(await own_database(process))


async def open_forwarder(process: Process) -> Forwarder:
    addresses = Addresses(await process.get(ControlDatabase), process.settings.functions)
    return Forwarder(addresses, await process.get(Tokens), await process.get(Databases))


async def open_own_functions(process: Process) -> OwnFunctions:
    return OwnFunctions(await process.get(ControlDatabase))


async def open_client(process: Process) -> FunctionClient:
    return FunctionClient(process.settings)


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
    async def allowed(tenant: TenantId) -> tuple[str, ...] | None:
        from shared.llm.allowed import allowed_models

        return await allowed_models(await process.get(ControlDatabase), tenant)  # asked for by who serves models only

    return Providers(private=process.settings.private_provider_urls, allowed=allowed)


async def open_guardrails(process: Process) -> Guardrails:
    return Guardrails()


async def open_compression(process: Process) -> Compression:
    return Compression()


async def open_answers(process: Process) -> Answers:
    return Answers(await process.get(CacheServer), Leases(process.settings.redis_url))


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
    Guardrails: open_guardrails,
    Answers: open_answers,
    Compression: open_compression,
    Forwarder: open_forwarder,
    OwnFunctions: open_own_functions,
}
"""Of a process that serves all tenants."""


async def open_own_databases(process: Process) -> Databases:
    """Without hooks: what is committed here is published and sealed by who handed the call on."""
    return Databases(connections_max=process.settings.connections_max)


async def open_own_database(process: Process) -> TenantDatabase:
    tenant = TenantId(process.settings.dedicated_tenant)
    return TenantDatabase(tenant, process.settings.postgres_url, await process.get(Databases))


async def open_own_secrets(process: Process) -> TenantSecrets:
    return TenantSecrets(DataKey(TenantId(process.settings.dedicated_tenant), read_key(process.settings, "data")))


async def open_verifier(process: Process) -> TokenVerifier:
    return TokenVerifier(read_key(process.settings, "issuer"), process.clock)


async def open_memory(process: Process) -> ProcessMemory:
    return ProcessMemory()


TENANT_OPENERS: Mapping[type, Opener] = {
    Databases: open_own_databases,
    TenantDatabase: open_own_database,
    TenantSecrets: open_own_secrets,
    TokenVerifier: open_verifier,
    ProcessMemory: open_memory,
    Denials: open_denials,
    FunctionClient: open_client,
    ObjectStore: open_objects,
    Embeddings: open_embeddings,
    Providers: open_providers,
}
"""Of a process that serves one tenant: nothing here reaches further."""


def process_of(settings: Settings, deployables: Sequence[Deployable]) -> Process:
    """The process that serves these functions. Raises `Fault` when it is for one tenant and a function cannot be."""
    if not settings.dedicated_tenant:
        return Process(settings, OPENERS)
    for one in deployables:
        if beyond := of_no_one_tenant(one.function):
            raise Fault(f"DCODER_TENANT is set, but {one.name} asks for {', '.join(beyond)}: it serves all tenants")
    return Process(settings, TENANT_OPENERS)
