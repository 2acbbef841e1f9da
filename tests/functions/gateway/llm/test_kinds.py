"""Each kind of provider gets its key as it takes it, and has the prices of its own."""

from __future__ import annotations

import pytest

from functions.gateway.llm.credentials import Provider
from functions.gateway.llm.reservation import output_limit
from shared.llm.kinds import KINDS
from tests.fixtures.provider import completion, usage
from tests.functions.gateway.conftest import PROVIDER_KEY, Gateway, store

MODEL = "gpt-4-turbo"


async def test_azure_gets_the_key_in_its_own_header_and_has_its_own_price(gateway: Gateway) -> None:
    costs = []
    for kind in ("azure", "openai"):
        await store(gateway.client, kind, gateway.provider.base_url, [MODEL], kind=kind)
        gateway.provider.will(completion(used=usage(1_000_000, 1_000_000)))
        answer = await gateway.chat(f"{kind}/{MODEL}")
        assert answer.status_code == 200, answer.text
        costs.append(answer.headers["x-dcoder-cost-micro-usd"])
        await gateway.client.delete(f"/v1/secrets/providers/{kind}")
    first, second = gateway.provider.calls
    assert (first.headers["api-key"], "authorization" in first.headers) == (PROVIDER_KEY, False)
    assert (second.headers["authorization"], "api-key" in second.headers) == (f"Bearer {PROVIDER_KEY}", False)
    assert costs == ["44000000", "40000000"]


@pytest.mark.parametrize(("kind", "member"), [("azure", "max_completion_tokens"), ("mistral", "max_tokens")])
def test_each_is_told_the_length_by_the_name_it_knows(kind: str, member: str) -> None:
    provider = Provider("p", "https://x.example/v1", ("m",), b"", kind)
    assert output_limit(provider, "chat", 7) == {member: 7}
    assert output_limit(provider, "completions", 7) == {"max_tokens": 7}


def test_who_has_no_key_gets_no_credential() -> None:
    assert KINDS["ollama"].credential("") == {}
    assert KINDS["anthropic"].credential("k") == {b"x-api-key": b"k"}
