"""What caching and compression save, on four fixed workloads: `./dcoder bench savings [--page FILE]`.

Each workload is sent twice through the real gateway to the scripted provider: with everything off, and with the cache
on and prompts compressed. Costs are those of the ledger's prices for gpt-4o-mini, tokens cached by the provider
included. The provider counts tokens as `shared/compression/estimate.py` does, and has a cache of prompts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from tests.fixtures.platform import Platform, scratch_platform
from tests.fixtures.provider import ScriptedProvider, serving_provider
from tests.functions.gateway.conftest import serving, store
from tests.load.savings.page import page
from tests.load.savings.provider import Knowing, calls_again, key_of
from tests.load.savings.table import Row, row_of, text_table
from tests.load.savings.workloads import MODEL, Asked, Workload, workloads

Json = Any  # Any: JSON
OFF = {"x-dcoder-cache": "off", "x-dcoder-compression": "off"}


@dataclass(frozen=True)
class Answered:
    """One call's answer, and whether it is the right one. `answer`: None while the model wants something again."""

    headers: httpx.Headers
    right: bool | None


async def ask(client: httpx.AsyncClient, asked: Asked, headers: dict[str, str]) -> list[Answered]:
    """The request's answers: one, or two where the model wants to see again what was put aside."""
    body = asked.body
    found: list[Answered] = []
    while True:
        response = await client.post("/v1/chat/completions", json=body, headers=headers)
        response.raise_for_status()
        message = response.json()["choices"][0]["message"]
        if not calls_again(message):
            return [*found, Answered(response.headers, message["content"] == asked.answer)]
        found.append(Answered(response.headers, None))
        wanted = json.loads(message["tool_calls"][0]["function"]["arguments"])["id"]
        original = (await client.get(f"/v1/compression/originals/{wanted}")).raise_for_status().json()
        again = {"role": "tool", "tool_call_id": "again", "content": original["content"]}
        body = {**body, "messages": [*body["messages"], message, again]}


async def sent(client: httpx.AsyncClient, workload: Workload, headers: dict[str, str]) -> list[Answered]:
    found: list[Answered] = []
    for wave in workload.waves:
        for answers in await asyncio.gather(*(ask(client, asked, headers) for asked in wave)):
            found += answers
    return found


async def measured(platform: Platform) -> list[Row]:
    settings = replace(platform.settings, private_provider_urls=True)
    headers = {"authorization": f"Bearer {platform.key}"}
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(serving_provider())
        _, served = await stack.enter_async_context(serving(settings))
        client = await stack.enter_async_context(
            httpx.AsyncClient(base_url=served.llm_url, headers=headers, timeout=60)
        )
        await store(client, "scripted", provider.base_url, [MODEL])
        setting = {"enabled": True, "ttl_s": 3600, "semantic": True}
        (await client.put("/v1/cache", json=setting)).raise_for_status()
        await asyncio.sleep(1)  # until every process knows
        return [await measured_row(client, provider, workload) for workload in workloads()]


async def measured_row(client: httpx.AsyncClient, provider: ScriptedProvider, workload: Workload) -> Row:
    """The workload's figures: sent with everything off, then with everything on."""
    knowing = Knowing(known(workload))
    provider.usual = knowing.answer
    before = await sent(client, workload, OFF)
    knowing.prefixes.clear()
    knowing.kept.clear()
    after = await sent(client, workload, {"x-dcoder-compression": workload.modes})
    return row_of(workload, [one.headers for one in before], [(one.headers, one.right) for one in after], knowing.kept)


def known(workload: Workload) -> dict[str, Asked]:
    """Its requests by what the provider knows them by. The same key with two answers would be a defect of the data."""
    found: dict[str, Asked] = {}
    for asked in (one for wave in workload.waves for one in wave):
        other = found.setdefault(key_of(asked.messages), asked)
        assert other.answer == asked.answer, (other.answer, asked.answer)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--page", type=Path, help="also write an HTML page with the table")
    options = parser.parse_args(arguments)
    with scratch_platform(durable=False) as platform:
        rows = asyncio.run(measured(platform))
    print(json.dumps({"rows": [row.told for row in rows]}) if options.json else text_table(rows))
    if options.page:
        options.page.write_text(page(rows))


if __name__ == "__main__":
    main()
