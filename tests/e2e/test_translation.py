"""The translator of a whole stack: nobody's process until its first call, and stopped with the others."""

from __future__ import annotations

import httpx

from tests.fixtures.provider import serving_provider
from tests.fixtures.stack import stack

MODEL = "claude-sonnet-4-5"


async def test_the_first_translated_call_starts_the_translator() -> None:
    with stack() as (cli, up):
        assert "translate" not in cli.children()
        async with serving_provider() as provider, httpx.AsyncClient(timeout=120) as client:
            client.headers["authorization"] = f"Bearer {up['tenant_key']}"
            body = {
                "kind": "anthropic",
                "base_url": provider.origin,
                "api_key": "sk-1",
                "models": [MODEL],
                "check": False,
            }
            stored = await client.put(f"{up['platform_url']}/v1/secrets/providers/claudes", json=body)
            assert stored.status_code == 200, stored.text
            asked = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
            answers = [await client.post(f"{up['llm_url']}/v1/chat/completions", json=asked) for _ in range(2)]
            assert [one.json()["choices"][0]["message"]["content"] for one in answers] == ["Hello"] * 2
            assert len(provider.calls) == 2
        child = cli.children()["translate"]
        assert child.running
        cli.run("down")
        assert not child.running
