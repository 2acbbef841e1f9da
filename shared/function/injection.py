"""The one table from a parameter's type to what a handler gets for it.

Asking is declaring: `GRANTS` says what a function that asks for a type needs of its surroundings, and the manifests
are derived from it.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, get_type_hints

from starlette.requests import Request

from shared.audit.checkpoint import AuditSigner
from shared.bundles.serving import OwnFunctions
from shared.clock import Clock
from shared.compression.stored import Compression
from shared.embeddings import Embeddings
from shared.errors import Fault, Invalid
from shared.events import Events, Relay
from shared.function.call import Call
from shared.function.declaration import Function, Handler, Operation, Route
from shared.function.invoke import LLM_FUNCTION, FunctionClient, Invoke
from shared.function.process import Process
from shared.function.tenants import database_of, secrets_of
from shared.function.transaction import ManagedTransaction
from shared.guardrails import Guardrails
from shared.identity import Caller, Tokens
from shared.llm.answers import Answers
from shared.llm.client import LanguageModel
from shared.llm.outbound import Providers
from shared.objects import ObjectStore, TenantObjects
from shared.postgres import ControlDatabase, ControlTransaction, TenantDatabase, TenantTransaction
from shared.quotas import Meter
from shared.redis import Cache, CacheServer, ProcessMemory
from shared.secrets import TenantSecrets
from shared.settings import Settings
from shared.tenancy import TenantRegistry

Provider = Callable[[Call], Awaitable[object]]


async def tenant_database(call: Call) -> TenantDatabase:
    return await database_of(call.process, call.caller.tenant)


async def tenant_transaction(call: Call) -> TenantTransaction | ControlTransaction:
    """The call's one transaction; under the platform's own tenant it is the control database's."""
    if call.transaction is None:
        call.transaction = ManagedTransaction(await tenant_database(call))
    return await call.transaction.begin()


async def control_database(call: Call) -> ControlDatabase:
    return await call.process.get(ControlDatabase)


async def control_transaction(call: Call) -> TenantTransaction | ControlTransaction:
    if call.transaction is None:
        call.transaction = ManagedTransaction(await control_database(call))
    return await call.transaction.begin()


async def tenant_objects(call: Call) -> TenantObjects:
    store = await call.process.get(ObjectStore)
    return store.tenant(call.caller.tenant)


async def tenant_secrets(call: Call) -> TenantSecrets:
    return await secrets_of(call.process, call.caller.tenant)


async def invoke(call: Call) -> Invoke:
    client = await call.process.get(FunctionClient)
    if call.process.settings.dedicated_tenant:
        return Invoke(client, lambda function: call.credential, call.traceparent)
    tokens = await call.process.get(Tokens)
    return Invoke(client, lambda function: tokens.mint(call.caller, audience=function), call.traceparent)


async def language_model(call: Call) -> LanguageModel:
    return LanguageModel(await invoke(call))


async def cache_of_tenant(call: Call) -> Cache:
    if call.process.settings.dedicated_tenant:
        return Cache(call.caller.tenant, await call.process.get(ProcessMemory))
    server = await call.process.get(CacheServer)
    return server.tenant(call.caller.tenant)


@dataclass(frozen=True)
class OfCall:
    """What a call has with it."""

    pick: Callable[[Call], object]

    async def __call__(self, call: Call) -> object:
        return self.pick(call)


@dataclass(frozen=True)
class OfProcess:
    """What its process has, once, for all calls."""

    kind: type[Any]

    async def __call__(self, call: Call) -> object:
        return await call.process.get(self.kind)


async def provided(providers: Mapping[str, Provider], call: Call) -> dict[str, Any]:  # Any: handlers' arguments
    """What the providers give for the call, by name. What is there already is not waited for."""
    values: dict[str, Any] = {}
    for name, provide in providers.items():
        if isinstance(provide, OfCall):
            values[name] = provide.pick(call)
        elif isinstance(provide, OfProcess) and (found := call.process.opened(provide.kind)) is not None:
            values[name] = found
        else:
            values[name] = await provide(call)
    return values


PROVIDERS: Mapping[type, Provider] = {
    Call: OfCall(lambda call: call),
    Caller: OfCall(lambda call: call.caller),
    Clock: OfCall(lambda call: call.process.clock),
    Process: OfCall(lambda call: call.process),
    Settings: OfCall(lambda call: call.process.settings),
    TenantDatabase: tenant_database,
    TenantTransaction: tenant_transaction,
    ControlDatabase: control_database,
    ControlTransaction: control_transaction,
    TenantObjects: tenant_objects,
    TenantSecrets: tenant_secrets,
    TenantRegistry: OfProcess(TenantRegistry),
    Embeddings: OfProcess(Embeddings),
    Events: OfProcess(Events),
    Relay: OfProcess(Relay),
    AuditSigner: OfProcess(AuditSigner),
    Meter: OfProcess(Meter),
    Providers: OfProcess(Providers),
    Guardrails: OfProcess(Guardrails),
    Answers: OfProcess(Answers),
    Compression: OfProcess(Compression),
    Cache: cache_of_tenant,
    Invoke: invoke,
    LanguageModel: language_model,
    OwnFunctions: OfProcess(OwnFunctions),
}

RUNTIME_GRANTS = frozenset({"postgres", "events", "tokens-key", "pepper-key", "hooks-key"})
"""What every process opens to know its callers and to relay its outboxes, whatever its handlers ask for."""
REGISTRY_GRANTS = frozenset({"postgres", "events", "root-key", "objects", "redis"})
"""What opening the registry of tenants takes, and so the first use of any tenant's database or secrets."""
FORWARDING_GRANTS = frozenset({"functions"})
"""What handing a tenant's calls on to a process of its own takes, for every function that can have one."""
NOTHING: frozenset[str] = frozenset()

GRANTS: Mapping[type, frozenset[str]] = {
    Call: NOTHING,
    Caller: NOTHING,
    Clock: NOTHING,
    Settings: NOTHING,
    Process: REGISTRY_GRANTS,
    TenantDatabase: REGISTRY_GRANTS,
    TenantTransaction: REGISTRY_GRANTS,
    TenantRegistry: REGISTRY_GRANTS,
    TenantSecrets: REGISTRY_GRANTS,
    ControlDatabase: frozenset({"postgres"}),
    ControlTransaction: frozenset({"postgres"}),
    TenantObjects: frozenset({"objects"}),
    Embeddings: NOTHING,
    Events: frozenset({"events"}),
    Relay: frozenset({"events"}),
    AuditSigner: frozenset({"audit-key"}),
    Cache: frozenset({"redis"}),
    Meter: frozenset({"postgres", "redis"}),
    Invoke: frozenset({"functions"}),
    LanguageModel: frozenset({"functions"}),
    Providers: frozenset({"internet"}),
    Guardrails: NOTHING,
    Answers: frozenset({"redis"}),
    Compression: NOTHING,
    OwnFunctions: REGISTRY_GRANTS | {"functions"},
}
"""For every type of `PROVIDERS`, what its opening takes: stores, key files, the network."""

DEDICATED_GRANTS = frozenset({"postgres", "issuer-key"})
"""What every process takes that serves one tenant alone: its database, and the public key of the platform's tokens."""
TENANT_GRANTS: Mapping[type, frozenset[str]] = {
    Call: NOTHING,
    Caller: NOTHING,
    Clock: NOTHING,
    TenantDatabase: frozenset({"postgres"}),
    TenantTransaction: frozenset({"postgres"}),
    TenantObjects: frozenset({"objects"}),
    TenantSecrets: frozenset({"data-key"}),
    Embeddings: NOTHING,
    Cache: NOTHING,
    Providers: frozenset({"internet"}),
    LanguageModel: frozenset({"functions"}),
}
"""What a type takes in a process of one tenant. A function that asks for any other type cannot have such a process:
what it takes reaches further than one tenant."""

ONWARD: Mapping[type, frozenset[str]] = {LanguageModel: frozenset({LLM_FUNCTION})}
"""Which functions a type calls for the caller of the function that asks for it."""


@cache
def hints_of(handler: Handler) -> dict[str, Any]:  # Any: annotations
    return get_type_hints(handler, include_extras=True)


class Injected:
    """A handler's parameters, parted into those that the runtime provides and those that the request does."""

    def __init__(self, handler: Handler) -> None:
        hints = hints_of(handler)
        self.parameters = inspect.signature(handler).parameters
        self.provided: dict[str, Provider] = {
            name: PROVIDERS[hints[name]] for name in self.parameters if hints.get(name) in PROVIDERS
        }
        self.given: dict[str, type] = {
            name: hints[name] for name in self.parameters if name not in self.provided and name in hints
        }
        self.grants = frozenset().union(*(GRANTS.get(hints[name], frozenset()) for name in self.provided))

    async def values(self, call: Call, given: Mapping[type, object]) -> dict[str, Any]:
        """All of the handler's arguments. `given` holds what the trigger brings, by type. Raises `Fault`."""
        values: dict[str, Any] = {}
        for name, kind in self.given.items():
            if kind not in given:
                raise Fault(f"{call.name} asks for {name}: {kind!r}, which nothing provides")
            values[name] = given[kind]
        return values | await provided(self.provided, call)

    async def raw_values(self, call: Call, request: Request) -> dict[str, Any]:
        """The arguments of a raw endpoint: provided ones, the request itself, and path parameters by name."""
        values: dict[str, Any] = {}
        for name, kind in self.given.items():
            values[name] = request if kind is Request else request.path_params[name]
        return values | await provided(self.provided, call)


def grants_of(function: Function) -> frozenset[str]:
    """What the handlers of a function need of its surroundings, beside `RUNTIME_GRANTS`."""
    found: set[str] = set()
    for operation in function.operations:
        found |= Injected(operation.handler).grants
        if opens_registry(operation):
            found |= REGISTRY_GRANTS
    if not of_no_one_tenant(function):
        found |= FORWARDING_GRANTS
    return frozenset(found)


def asked_by(function: Function) -> frozenset[type]:
    """The types of `PROVIDERS` that the function's handlers ask for."""
    hints = (hint for operation in function.operations for hint in parameters_of(operation.handler))
    return frozenset(hint for hint in hints if hint in PROVIDERS)


def parameters_of(handler: Handler) -> list[type]:
    return [kind for name, kind in hints_of(handler).items() if name != "return"]


def of_no_one_tenant(function: Function) -> list[str]:
    """The types because of which the function cannot be dedicated to a tenant; none when it can."""
    return sorted(kind.__name__ for kind in asked_by(function) if kind not in TENANT_GRANTS)


def dedicated_grants_of(function: Function) -> frozenset[str]:
    """What a process needs that serves the function to one tenant alone. Raises `Invalid` when it cannot."""
    if beyond := of_no_one_tenant(function):
        raise Invalid(f"it asks for {', '.join(beyond)}, which {'is' if len(beyond) == 1 else 'are'} of no one tenant")
    return DEDICATED_GRANTS.union(*(TENANT_GRANTS[kind] for kind in asked_by(function)))


def onward_of(function: Function) -> frozenset[str]:
    """The functions that the function calls for its callers, by the types that it asks for."""
    return frozenset().union(*(ONWARD.get(kind, frozenset()) for kind in asked_by(function)))


def opens_registry(operation: Operation) -> bool:
    """Whether the runtime itself opens the tenant's database: to commit a change with its audit record."""
    changes = isinstance(operation.trigger, Route) and operation.trigger.changes
    return changes and ControlTransaction not in hints_of(operation.handler).values()
