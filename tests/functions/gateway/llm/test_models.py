"""Which models there are, for whom, and who serves them."""

from __future__ import annotations

from typing import cast

import anthropic
import pytest

from functions.gateway.llm.credentials import Offer, Provider
from functions.gateway.llm.models import find, listing, page, resolve
from shared.errors import Malformed, NotFound
from shared.identity import Caller
from shared.ids import TenantId
from shared.tenancy import TenantRegistry
from tests.functions.gateway.conftest import CLAUDES, MODELS, Gateway, make_key, question, store

ONE = Provider("one", "https://one.example/v1", ("a", "b", "x/y"), b"")
TWO = Provider("two", "https://two.example/v1", ("b", "c", "some-embedding"), b"")
BOTH = Offer((ONE, TWO))


def caller(*scope: str, function: bool = False) -> Caller:
    models = frozenset(scope) if scope else None
    return Caller(TenantId("acme"), "test", "member", "function" if function else "key", models=models)


@pytest.mark.parametrize(
    ("asked", "provider", "model"),
    [
        ("a", "one", "a"),
        ("b", "one", "b"),
        ("two/b", "two", "b"),
        ("c", "two", "c"),
        ("x/y", "one", "x/y"),
        ("one/x/y", "one", "x/y"),
    ],
)
def test_a_model_is_served_by_who_lists_it(asked: str, provider: str, model: str) -> None:
    target = find(asked, BOTH)
    assert target is not None
    assert target.provider is not None
    assert (target.provider.name, target.model) == (provider, model)


@pytest.mark.parametrize("asked", ["", "d", "one/c", "three/a", "doc-chat/", "doc-chat/d", "one/", "/a", "A"])
def test_what_nobody_lists_is_not_found(asked: str) -> None:
    assert find(asked, BOTH) is None


def test_a_provider_cannot_take_the_place_of_a_built_in_model() -> None:
    target = find("doc-chat", Offer((Provider("evil", "https://evil.example", ("doc-chat",), b""),)))
    assert target is not None
    assert target.provider is None


@pytest.mark.parametrize(
    ("scope", "asked", "function"),
    [
        (("a",), "a", False),
        (("a",), "one/a", False),
        (("one/a",), "a", False),
        (("two/b",), "two/b", False),
        (("doc-chat", "a"), "doc-chat/a", False),
        (("doc-chat/a",), "doc-chat/a", False),
        (("doc-chat/a",), "a", True),
    ],
)
def test_a_scope_allows_a_model_by_any_of_its_names(scope: tuple[str, ...], asked: str, function: bool) -> None:
    assert resolve(caller(*scope, function=function), asked, BOTH)


@pytest.mark.parametrize(
    ("scope", "asked"),
    [
        (("b",), "a"),
        (("two/b",), "b"),
        (("doc-chat",), "doc-chat/a"),
        (("a",), "doc-chat/a"),
        (("a",), "doc-chat"),
        (("doc-chat/a",), "a"),
        (("a",), "all-minilm-l6-v2"),
    ],
)
def test_a_model_outside_of_the_scope_looks_as_if_it_did_not_exist(scope: tuple[str, ...], asked: str) -> None:
    with pytest.raises(NotFound) as refused:
        resolve(caller(*scope), asked, BOTH)
    with pytest.raises(NotFound) as absent:
        resolve(caller(), "no-such", BOTH)
    assert refused.value.detail.replace(repr(asked), "'no-such'") == absent.value.detail


def test_every_listed_model_can_be_used_and_no_name_is_listed_twice() -> None:
    for who in (caller(), caller("a", "two/b"), caller("doc-chat", "c")):
        listed = [str(one["id"]) for one in listing(who, BOTH)]
        assert len(listed) == len(set(listed))
        assert all(resolve(who, name, BOTH) for name in listed)


def test_a_model_that_two_providers_have_is_listed_once_under_each_name() -> None:
    listed = [one["id"] for one in listing(caller(), BOTH)]
    assert "b" in listed
    assert "two/b" in listed
    assert "doc-chat/some-embedding" not in listed


async def test_a_key_sees_and_uses_only_the_models_of_its_scope(gateway: Gateway) -> None:
    key = await make_key(gateway.application, gateway.tenant, role="member", models=["gpt-4o-mini"])
    async with gateway.with_key(key) as client:
        listed = (await client.get("/v1/models")).json()["data"]
        allowed = await client.post("/v1/chat/completions", json=question("gpt-4o-mini"))
        refused = await client.post("/v1/chat/completions", json=question("house-model"))
        one = await client.get("/v1/models/gpt-4o-mini")
        none = await client.get("/v1/models/house-model")
    assert [one["id"] for one in listed] == ["gpt-4o-mini"]
    assert (allowed.status_code, refused.status_code, one.status_code, none.status_code) == (200, 404, 200, 404)
    assert refused.json()["error"]["code"] == none.json()["error"]["code"] == "model_not_found"
    assert len(gateway.provider.calls) == 1


async def test_another_tenant_has_none_of_these_models(gateway: Gateway) -> None:
    registry = await gateway.application.process.get(TenantRegistry)
    await registry.create("neighbour")
    key = await make_key(gateway.application, TenantId("neighbour"))
    async with gateway.with_key(key) as client:
        listed = (await client.get("/v1/models")).json()["data"]
        answer = await client.post("/v1/chat/completions", json=question("gpt-4o-mini"))
    await registry.delete(TenantId("neighbour"))
    assert {one["id"] for one in listed} == {"doc-chat", "all-minilm-l6-v2"}
    assert answer.status_code == 404
    assert gateway.provider.calls == []


async def test_a_provider_can_be_used_the_moment_it_is_stored(gateway: Gateway) -> None:
    assert (await gateway.chat("brand-new")).status_code == 404
    await store(gateway.client, "fresh", gateway.provider.base_url, ["brand-new"])
    assert (await gateway.chat("brand-new")).status_code == 200


async def test_who_speaks_anthropics_dialect_gets_its_models_in_its_form(gateway: Gateway) -> None:
    sdk = anthropic.AsyncAnthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0)
    listed = {model.id async for model in sdk.models.list()}
    assert {*MODELS, *CLAUDES} <= listed
    assert not any(name.startswith(("doc-chat", "all-minilm")) for name in listed)
    assert (await sdk.models.retrieve(CLAUDES[0])).display_name == CLAUDES[0]


@pytest.mark.parametrize(
    ("query", "found", "more"),
    [
        ({}, ["a", "b", "c"], False),
        ({"limit": "2"}, ["a", "b"], True),
        ({"limit": "2", "after_id": "b"}, ["c"], False),
        ({"limit": "1", "before_id": "c"}, ["b"], True),
        ({"after_id": "c"}, [], False),
    ],
)
def test_a_page_in_anthropics_form(query: dict[str, str], found: list[str], more: bool) -> None:
    told = page(["a", "b", "c"], query)
    assert [one["id"] for one in cast("list[dict[str, object]]", told["data"])] == found
    assert told["has_more"] is more
    assert told["first_id"] == (found[0] if found else None)


@pytest.mark.parametrize("limit", ["0", "1001", "x", "", "\u0661"])
def test_a_page_has_a_size(limit: str) -> None:
    with pytest.raises(Malformed):
        page(["a"], {"limit": limit})
