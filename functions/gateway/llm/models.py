"""Which models there are for a tenant, which of them a key may use, and who serves the one that is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from functions.gateway.llm.credentials import Alias, Offer, Provider, offer_of
from shared.errors import Malformed, NotFound, Refusal
from shared.identity import Caller
from shared.llm.kinds import DOC_CHAT, EMBEDDING, GROUP, Dialect, Wire
from shared.llm.outbound import Providers
from shared.postgres import TenantDatabase

OWN = "dcoder"
SINCE = 1_730_000_000  # OpenAI's clients expect a creation time; it means nothing here
SINCE_TEXT = "2024-10-27T03:33:20Z"
PAGE, PAGE_MAX = 20, 1000


@dataclass(frozen=True)
class Target:
    """Who serves a model. `model` is what the provider calls it; without a provider it is built in."""

    model: str
    provider: Provider | None = None
    alias: Alias | None = None
    """Under which it was asked for, if it was one: what becomes of the bodies."""
    writer: str = ""
    """For `doc-chat/<model>`: the model that writes. Empty for the extractive answerer."""

    @property
    def names(self) -> frozenset[str]:
        """The names that a key's scope may have for it."""
        return frozenset({self.model} | ({f"{self.provider.name}/{self.model}"} if self.provider else set()))


class OtherDialect(Refusal):
    """The model is there, its provider speaks another dialect than the route: nothing was asked."""

    status, code, title = 400, "other_dialect", "Model of another dialect"


def dialect_of(target: Target) -> Wire:
    """What is built in speaks OpenAI's."""
    return target.provider.of.wire(target.model) if target.provider else "openai"


def check_dialect(target: Target, model: str, dialect: Dialect, feature: str) -> None:
    """Raises `OtherDialect` unless the model's provider speaks the dialect, or is translated for."""
    wire = dialect_of(target)
    if wire == dialect:
        return
    if target.provider is None:
        raise OtherDialect(f"the model {model!r} is served by /v1/chat/completions only", param="model")
    if feature == "embeddings" and wire == "anthropic":
        raise OtherDialect(f"the model {model!r} is one of Anthropic's, which make no embeddings", param="model")


async def chosen(caller: Caller, model: str, tenant: TenantDatabase, providers: Providers) -> Target:
    """Who serves the model for this caller. A model not found is looked for once more in the database itself."""
    try:
        return resolve(caller, model, await offer_of(tenant, providers))
    except NotFound:
        return resolve(caller, model, await offer_of(tenant, providers, afresh=True))


def resolve(caller: Caller, model: str, offer: Offer) -> Target:
    """Who serves the model. A model that the key may not use looks as if it did not exist. Raises `NotFound`."""
    target = find(model, offer)
    if target is None or not may_use(caller, model, target, offer):
        raise NotFound(
            f"the model {model[:100]!r} does not exist or this key may not use it; GET /v1/models lists those it may",
            openai_code="model_not_found",
            param="model",
        )
    return target


def find(model: str, offer: Offer) -> Target | None:
    """Built-in names first, then aliases, then a provider that lists the model, then `<provider>/<model>`."""
    if model in (DOC_CHAT, EMBEDDING):
        return Target(model)
    head, _, tail = model.partition("/")
    if head == DOC_CHAT and tail:
        return Target(model, writer=tail) if of_provider(tail, offer) else None
    return of_provider(model, offer)


def of_provider(model: str, offer: Offer) -> Target | None:
    target = behind(model, offer)
    if target is None or target.provider is None or not offer.allows(target.provider, target.model):
        return None
    return target


def behind(model: str, offer: Offer) -> Target | None:
    """Whether or not the tenant may use it."""
    if (alias := offer.aliases.get(model)) is not None:
        having = (one for one in offer.providers if one.name == alias.provider and alias.model in one.models)
        return next((Target(alias.model, one, alias=alias) for one in having), None)
    for provider in offer.providers:
        if model in provider.models:
            return Target(model, provider)
    head, _, tail = model.partition("/")
    for provider in offer.providers:
        if provider.name == head and tail in provider.models:
            return Target(tail, provider)
    return None


def may_use(caller: Caller, model: str, target: Target, offer: Offer) -> bool:
    """`doc-chat/<model>` needs its own name in the key's scope, or both of its parts. A function that writes on behalf
    of such a key may use the model that writes."""
    scope = scope_of(caller, offer)
    if scope is None or model in scope or target.names & scope:
        return True
    if target.writer:
        writer = of_provider(target.writer, offer)
        return DOC_CHAT in scope and writer is not None and bool(({target.writer} | writer.names) & scope)
    return caller.kind == "function" and f"{DOC_CHAT}/{model}" in scope


def scope_of(caller: Caller, offer: Offer) -> frozenset[str] | None:
    """The names that the caller's key is for, with those of its groups; None for all."""
    if caller.models is None:
        return None
    named = [
        offer.groups.get(name.removeprefix(GROUP), frozenset()) for name in caller.models if name.startswith(GROUP)
    ]
    return caller.models.union(*named)


def usable(caller: Caller, offer: Offer) -> dict[str, Target]:
    """The models that the caller may use, by their names."""
    found = {name: find(name, offer) for name in dict.fromkeys(names(offer))}
    return {name: target for name, target in found.items() if target and may_use(caller, name, target, offer)}


def listing(caller: Caller, offer: Offer) -> list[dict[str, object]]:
    """The models that the caller may use, in OpenAI's form."""
    return [described(name, target) for name, target in usable(caller, offer).items()]


def described(name: str, target: Target) -> dict[str, object]:
    return {
        "id": name,
        "object": "model",
        "created": SINCE,
        "owned_by": target.provider.name if target.provider else OWN,
    }


def page(names: Sequence[str], query: Mapping[str, str]) -> dict[str, object]:
    """A page of a list in Anthropic's form, by `limit`, `after_id` and `before_id`. Raises `Malformed`."""
    text = query.get("limit", str(PAGE))
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= PAGE_MAX):
        raise Malformed(f"'limit' is a whole number from 1 to {PAGE_MAX}", param="limit")
    after, before = query.get("after_id"), query.get("before_id")
    start = names.index(after) + 1 if after in names else 0
    stop = names.index(before) if before in names else len(names)
    found = names[start:stop]
    told = found[-int(text) :] if before else found[: int(text)]
    ends = {"first_id": told[0], "last_id": told[-1]} if told else {"first_id": None, "last_id": None}
    return {"data": [described_to_anthropic(name) for name in told], "has_more": len(told) < len(found), **ends}


def described_to_anthropic(name: str) -> dict[str, object]:
    return {"type": "model", "id": name, "display_name": name, "created_at": SINCE_TEXT}


def names(offer: Offer) -> Iterator[str]:
    """Built-in ones, aliases, each provider's own (with its provider's name where an earlier one has the same), and the
    writers of `doc-chat`. Embedding models do not write; they are known by their names only."""
    yield from (DOC_CHAT, EMBEDDING)
    yield from offer.aliases
    seen: set[str] = set()
    for provider in offer.providers:
        for model in provider.models:
            yield f"{provider.name}/{model}" if model in seen else model
        seen.update(provider.models)
    yield from (
        f"{DOC_CHAT}/{model}" for provider in offer.providers for model in provider.models if "embed" not in model
    )
