"""The translator in its own image, from no pod, with a provider of the environment's own network.

It wants an environment with `translate_image`, whose first of `private_providers` is an address of this machine.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.conftest import Deployed, wait_for
from tests.fixtures.provider import ScriptedProvider, provider_at

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
ZERO_S = 180
ASKED = {"messages": [{"role": "user", "content": "Greet me."}], "max_tokens": 20}
KINDS = {"claude": "anthropic", "gpt": "openai"}
"""The providers' names, and the dialects that they speak."""


@pytest.fixture(scope="module")
def provider(deployed: Deployed) -> Iterator[ScriptedProvider]:
    """Stored twice for the tenant: as one that speaks Anthropic's dialect, and as one that speaks OpenAI's."""
    environment = deployed.environment
    if environment.translate_image is None or not environment.private_providers:
        pytest.skip("DCODER_TEST_ENVIRONMENT has no translate_image, or no private_providers")
    place = environment.private_providers[0]
    with provider_at(place.cidr.partition("/")[0], place.port) as scripted:
        for name, kind in KINDS.items():
            url = scripted.origin if kind == "anthropic" else scripted.base_url
            body = {"kind": kind, "base_url": url, "api_key": "sk-scripted", "models": [f"{name}-1"]}
            deployed.platform(deployed.tenant_key).call("PUT", f"/v1/secrets/providers/{name}", body)
        scripted.reset()
        yield scripted


@pytest.fixture
def asleep(deployed: Deployed, provider: ScriptedProvider) -> Deployed:
    """The gateway and its translator have no pod."""
    provider.reset()

    def awake() -> list[object]:
        return [*deployed.pods("gateway"), *deployed.pods("gateway-translate")]

    wait_for(lambda: not awake(), timeout_s=ZERO_S, what="every pod of the gateway and its translator gone")
    return deployed


def test_an_openai_call_reaches_a_provider_of_anthropics_dialect_from_no_pod(
    asleep: Deployed, provider: ScriptedProvider
) -> None:
    answer = asleep.llm(asleep.tenant_key).call("POST", "/v1/chat/completions", {**ASKED, "model": "claude-1"}).json()

    assert answer["object"] == "chat.completion"
    assert "Hello" in str(answer["choices"])
    (call,) = provider.calls
    assert (call.path, call.headers["x-api-key"]) == ("/v1/messages", "sk-scripted")
    assert asleep.pods("gateway-translate"), "it was translated here"


def test_an_anthropic_call_reaches_a_provider_of_openais_dialect_from_no_pod(
    asleep: Deployed, provider: ScriptedProvider
) -> None:
    answer = asleep.llm(asleep.tenant_key).call("POST", "/v1/messages", {**ASKED, "model": "gpt-1"}).json()

    assert answer["type"] == "message"
    assert "Hello" in str(answer["content"])
    (call,) = provider.calls
    assert (call.path, call.headers["authorization"]) == ("/v1/chat/completions", "Bearer sk-scripted")
    assert asleep.pods("gateway-translate"), "it was translated here"


@pytest.mark.parametrize(
    ("path", "model", "last"),
    [
        ("/v1/chat/completions", "claude-1", b"data: [DONE]\n\n"),
        ("/v1/messages", "gpt-1", b'data: {"type": "message_stop"}\n\n'),
    ],
)
def test_a_stream_is_translated_to_its_end(
    deployed: Deployed, provider: ScriptedProvider, path: str, model: str, last: bytes
) -> None:
    provider.reset()

    body = deployed.llm(deployed.tenant_key).call("POST", path, {**ASKED, "model": model, "stream": True}).body

    assert b"Hello" in body
    assert body.endswith(last), body[-200:]
    assert len(provider.calls) == 1
