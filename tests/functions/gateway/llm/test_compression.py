"""Prompts are shorter for who wants it, the same bytes for who does not, and no call fails because of it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from functions.gateway.llm import compressing
from functions.knowledge.documents.ingest import Ingest
from functions.knowledge.documents.parsing import Parsers
from shared.compression.stored import REMEMBERED_S, Compression, Saving
from shared.embeddings import Embeddings
from shared.function.tenants import database_of
from shared.objects import ObjectStore
from shared.postgres import TenantDatabase
from tests.fixtures.provider import completion, usage
from tests.functions.gateway.conftest import CLAUDES, Gateway, make_key, question

Json = Any  # Any: JSON
ROWS = [{"id": number, "name": f"part {number}", "price": 1.5 + number, "stocked": True} for number in range(60)]
TABLE = json.dumps(ROWS, indent=2)
TOOL = {"type": "function", "function": {"name": "parts", "parameters": {"type": "object", "properties": {}}}}
HEADER = "x-dcoder-compression"
REFUNDS = (
    "Our shop is a friendly place. People like to come here. The staff is kind to everybody who calls. Coffee is served"
    " all day long. Refunds are made by the same way as the payment came. They need patience. The garden is open in"
    " summer. Dogs are welcome in the garden too. Parking is behind the house."
)


def agent(*results: str, **more: Json) -> Json:
    """An agent's conversation in OpenAI's dialect, with one call of a tool for each result."""
    messages: list[Json] = [{"role": "system", "content": "Be  brief.  \n\n\n"}, {"role": "user", "content": "Parts?"}]
    for number, result in enumerate(results):
        call = {"id": f"call_{number}", "type": "function", "function": {"name": "parts", "arguments": "{ }"}}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": f"call_{number}", "content": result})
    return {"model": "gpt-4o-mini", "messages": messages, "tools": [TOOL], **more}


def claude(*results: str, **more: Json) -> Json:
    """The same in Anthropic's."""
    messages: list[Json] = [{"role": "user", "content": "Parts?"}]
    for number, result in enumerate(results):
        called = {"type": "tool_use", "id": f"toolu_{number}", "name": "parts", "input": {}}
        told = {"type": "tool_result", "tool_use_id": f"toolu_{number}", "content": result}
        messages += [{"role": "assistant", "content": [called]}, {"role": "user", "content": [told]}]
    tools = [{"name": "parts", "input_schema": {"type": "object", "properties": {}}}]
    return {"model": CLAUDES[0], "max_tokens": 100, "messages": messages, "tools": tools, **more}


async def asked(
    gateway: Gateway, body: Json, modes: str = "", path: str = "chat/completions"
) -> Any:  # Any: a response
    headers = {HEADER: modes} if modes else {}
    answer = await gateway.client.post(f"/v1/{path}", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer


async def database(gateway: Gateway) -> TenantDatabase:
    return await database_of(gateway.application.process, gateway.tenant)


async def savings(gateway: Gateway, *answers: Any) -> list[Json]:  # Any: responses
    """The rows of these calls, once they are written."""
    await (await gateway.application.process.get(Compression)).close()
    sql = "SELECT * FROM compression_savings WHERE request_id = ANY($1)"
    return [dict(row) for row in await (await database(gateway)).fetch(sql, [id_of(one) for one in answers])]


def id_of(answer: Any) -> str:  # Any: a response
    return str(answer.headers["x-request-id"])


async def test_who_does_not_want_it_is_sent_as_it_came(gateway: Gateway) -> None:
    raw = json.dumps(agent(TABLE), indent=3).encode()
    answers = []
    for headers in ({}, {HEADER: "off"}):
        kind = {"content-type": "application/json", **headers}
        answers.append(await gateway.client.post("/v1/chat/completions", content=raw, headers=kind))
        assert HEADER not in answers[-1].headers
    assert [call.body for call in gateway.provider.calls] == [raw, raw]
    assert await savings(gateway, *answers) == []


async def test_a_result_is_sent_in_fewer_bytes_and_what_is_saved_is_told(gateway: Gateway) -> None:
    gateway.provider.will(completion("Sixty.", used=usage(1000, 10)))
    answer = await asked(gateway, agent(TABLE), "lossless")
    sent = gateway.provider.calls[0].json
    table = json.loads(sent["messages"][3]["content"].partition("\n")[2])
    assert [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]] == ROWS
    assert sent["messages"][:3] == agent(TABLE)["messages"][:3]
    assert sent["tools"] == [TOOL]
    how, before, after, tokens = answer.headers[HEADER].split("; ")
    (row,) = await savings(gateway, answer)
    assert how == "lossless"
    assert before == f"original-bytes={row['original_bytes']}"
    assert after == f"sent-bytes={row['sent_bytes']}"
    assert tokens == f"saved-tokens={row['saved_tokens']}"
    assert row["sent_bytes"] < row["original_bytes"] / 2
    (charged,) = await gateway.ledger()
    assert row["request_id"] == charged["request_id"]
    assert row["saved_micro_usd"] == round(row["saved_tokens"] * 0.15)
    report = (await gateway.client.get("/v1/compression/savings?by=model")).json()
    assert report["total"]["saved_tokens"] >= row["saved_tokens"]


async def test_a_stream_tells_it_too(gateway: Gateway) -> None:
    answer = await asked(gateway, agent(TABLE, stream=True), "lossless")
    assert answer.headers[HEADER].startswith("lossless; ")
    assert answer.content.endswith(b"data: [DONE]\n\n")


async def test_a_message_of_anthropics_dialect_is_shortened(gateway: Gateway) -> None:
    answer = await asked(gateway, claude(TABLE), "lossless", "messages")
    sent = gateway.provider.calls[0].json
    assert answer.headers[HEADER].startswith("lossless; ")
    assert len(sent["messages"][2]["content"][0]["content"]) < len(TABLE) / 2
    assert sent["messages"][:2] == claude(TABLE)["messages"][:2]
    counted = await asked(gateway, claude(TABLE), "lossless", "messages/count_tokens")
    assert counted.json() == {"input_tokens": 11}
    assert gateway.provider.calls[1].json == sent
    assert len(await savings(gateway, answer, counted)) == 1  # what is counted costs nothing, and saves nothing


async def test_what_saves_nothing_is_sent_as_it_came(gateway: Gateway) -> None:
    raw = json.dumps(question()).encode()
    kind = {"content-type": "application/json", HEADER: "lossless, passages"}
    answer = await gateway.client.post("/v1/chat/completions", content=raw, headers=kind)
    assert answer.headers[HEADER] == "none; original-bytes=2; sent-bytes=2; saved-tokens=0"
    assert gateway.provider.calls[0].body == raw


async def test_a_failing_compressor_fails_no_call(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*arguments: object) -> None:
        raise RecursionError("deep")

    monkeypatch.setattr(compressing, "compressed", failing)
    raw = json.dumps(agent(TABLE)).encode()
    kind = {"content-type": "application/json", HEADER: "lossless"}
    answer = await gateway.client.post("/v1/chat/completions", content=raw, headers=kind)
    assert (answer.status_code, answer.headers[HEADER]) == (200, "failed")
    assert gateway.provider.calls[0].body == raw


async def test_a_wish_that_cannot_be_is_refused(gateway: Gateway) -> None:
    for odd in ("much", "lossless, off", ""):
        answer = await gateway.client.post("/v1/chat/completions", json=question(), headers={HEADER: odd})
        assert answer.status_code == 400, odd
    assert gateway.provider.calls == []


async def test_a_key_can_have_it_always_and_so_can_the_key_that_it_is_rotated_to(gateway: Gateway) -> None:
    first = await make_key(gateway.application, gateway.tenant)
    name = first.split("_")[1]
    (await gateway.client.put(f"/v1/compression/keys/{name}", json={"modes": ["lossless"]})).raise_for_status()
    second = await make_key(gateway.application, gateway.tenant, tags=[f"key:{name}"])
    own = second.split("_")[1]
    await asyncio.sleep(REMEMBERED_S)
    for key in (first, second):
        async with gateway.with_key(key) as client:
            answer = await client.post("/v1/chat/completions", json=agent(TABLE))
            assert answer.headers[HEADER].startswith("lossless; ")
            answer = await client.post("/v1/chat/completions", json=agent(TABLE), headers={HEADER: "off"})
            assert HEADER not in answer.headers
    (await gateway.client.put(f"/v1/compression/keys/{own}", json={"modes": ["passages"]})).raise_for_status()
    await asyncio.sleep(REMEMBERED_S)
    async with gateway.with_key(second) as client:
        answer = await client.post("/v1/chat/completions", json=agent(TABLE))
        assert answer.headers[HEADER].startswith("none; ")  # its own setting holds, which finds no passages
    (await gateway.client.delete(f"/v1/compression/keys/{own}")).raise_for_status()
    assert HEADER not in (await asked(gateway, agent(TABLE))).headers
    assert [one["key"] for one in (await gateway.client.get("/v1/compression/keys")).json()["keys"]] == [name]
    (await gateway.client.delete(f"/v1/compression/keys/{name}")).raise_for_status()
    await asyncio.sleep(REMEMBERED_S)
    async with gateway.with_key(first) as client:
        assert HEADER not in (await client.post("/v1/chat/completions", json=agent(TABLE))).headers


async def test_only_an_administrator_sets_it_and_only_for_what_can_be_a_key(gateway: Gateway) -> None:
    member = await make_key(gateway.application, gateway.tenant, role="member")
    async with gateway.with_key(member) as client:
        answer = await client.put("/v1/compression/keys/abcdefghijkl", json={"modes": ["lossless"]})
        assert answer.status_code == 403
    for key, modes in (("abc", ["lossless"]), ("abcdefghijkl", []), ("abcdefghijkl", ["zip"])):
        answer = await gateway.client.put(f"/v1/compression/keys/{key}", json={"modes": modes})
        assert answer.status_code == 422


@pytest.fixture
def long() -> list[str]:
    """Results of which the first ones are put aside."""
    return [f"Report {number}. " + f"The machine number {number} was found in order. " * 150 for number in range(8)]


async def test_old_results_are_put_aside_and_can_be_had_again_by_the_same_key_only(
    gateway: Gateway, long: list[str]
) -> None:
    answer = await asked(gateway, agent(*long), "reversible")
    sent = gateway.provider.calls[0].json
    results = [one["content"] for one in sent["messages"] if one["role"] == "tool"]
    aside = [text for text in results if text.startswith("[dcoder: ")]
    assert len(aside) >= 3
    assert results[-3:] == long[-3:]
    assert sent["tools"][1]["function"]["name"] == "retrieve_original"
    assert answer.headers[HEADER].startswith("reversible; ")
    name = aside[0].partition("id='")[2].partition("'")[0]
    told = await gateway.client.get(f"/v1/compression/originals/{name}")
    assert told.json() == {"id": name, "content": long[0]}
    other = await make_key(gateway.application, gateway.tenant)
    async with gateway.with_key(other) as client:
        assert (await client.get(f"/v1/compression/originals/{name}")).status_code == 404
    row = await (await database(gateway)).fetchrow("SELECT sealed FROM compression_originals WHERE id = $1", name)
    assert row is not None
    assert b"machine" not in bytes(row["sealed"])
    again = await asked(gateway, claude(*long), "reversible", "messages")
    assert again.headers[HEADER].startswith("reversible; ")
    assert gateway.provider.calls[1].json["tools"][1]["name"] == "retrieve_original"


async def test_nothing_is_put_aside_for_who_has_no_tools_or_when_it_cannot_be_kept(
    gateway: Gateway, long: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    body = agent(*long)
    del body["tools"]
    await asked(gateway, body, "reversible")
    assert gateway.provider.calls[0].json["messages"] == body["messages"]
    monkeypatch.setattr("shared.compression.stored.KEEP", "SELECT no_such_function($1, $2, $3, $4)")
    fresh = [text + " Again." for text in long]
    answer = await asked(gateway, agent(*fresh), "reversible")
    assert answer.headers[HEADER] == "failed"
    assert gateway.provider.calls[1].json == agent(*fresh)


async def test_passages_are_shortened_to_what_bears_on_the_question(gateway: Gateway) -> None:
    passage = f"<document>{REFUNDS}</document>"
    text = f"How are refunds made?\n{passage}"
    answer = await asked(gateway, question(text=text), "passages")
    sent = gateway.provider.calls[0].json["messages"][0]["content"]
    assert sent.startswith("How are refunds made?\n<document>")
    assert "Refunds are made by the same way as the payment came. They need patience." in sent
    assert "Dogs" not in sent
    assert "People like" not in sent
    assert answer.headers[HEADER].startswith("passages; ")
    whole = await asked(gateway, question(text=text), "lossless")
    assert whole.headers[HEADER].startswith("none; ")


async def test_an_answer_to_a_shortened_prompt_is_not_given_to_who_sent_the_whole_one(gateway: Gateway) -> None:
    (await gateway.client.put("/v1/cache", json={"enabled": True})).raise_for_status()
    await asyncio.sleep(REMEMBERED_S)
    try:
        body = agent(TABLE, user="cache")
        told = [await asked(gateway, body, modes) for modes in ("lossless", "", "lossless")]
        assert [one.headers["x-dcoder-cache"].partition(";")[0] for one in told] == ["miss", "miss", "hit"]
        assert HEADER not in told[2].headers
    finally:
        (await gateway.client.put("/v1/cache", json={"enabled": False})).raise_for_status()


async def test_doc_chat_sends_shorter_passages_for_a_key_that_wants_it(gateway: Gateway) -> None:
    process = gateway.application.process
    objects = (await process.get(ObjectStore)).tenant(gateway.tenant)
    text = f"# Canteen\n\n{REFUNDS}\n"
    await objects.put("documents/canteen.md", text.encode(), "text/markdown")
    parsers = Parsers()
    try:
        ingest = Ingest(await database(gateway), objects, await process.get(Embeddings), parsers)
        await ingest.converge("canteen.md", "first")
    finally:
        await parsers.close()
    key = await make_key(gateway.application, gateway.tenant)
    name = key.split("_")[1]
    (await gateway.client.put(f"/v1/compression/keys/{name}", json={"modes": ["passages"]})).raise_for_status()
    await asyncio.sleep(REMEMBERED_S)
    async with gateway.with_key(key) as client:
        body = question("doc-chat/gpt-4o-mini", "How are refunds made?")
        (await client.post("/v1/chat/completions", json=body)).raise_for_status()
    (await gateway.client.delete(f"/v1/compression/keys/{name}")).raise_for_status()
    sent = gateway.provider.calls[-1].json["messages"][1]["content"]
    assert "Refunds are made by the same way as the payment came." in sent
    assert "[…]" in sent
    assert "People like to come here." not in sent


async def test_savings_that_cannot_be_written_are_logged_and_keep_no_others_from_it(
    gateway: Gateway, capfd: pytest.CaptureFixture[str]
) -> None:
    compression = Compression()
    database = await database_of(gateway.application.process, gateway.tenant)
    for request_id, model in (("lost-one", "a\0"), ("kept-one", "a")):  # PostgreSQL takes no null character in a text
        compression.save(database, Saving(request_id, None, model, ["lossless"], 9, 5, 1, None))
    await compression.close()
    rows = await database.fetch("SELECT request_id FROM compression_savings WHERE request_id LIKE '%-one'")
    assert [row["request_id"] for row in rows] == ["kept-one"]
    (line,) = [one for one in capfd.readouterr().err.splitlines() if "compression_saving_lost" in one]
    assert json.loads(line)["request_id"] == "lost-one"
