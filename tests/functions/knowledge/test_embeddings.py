"""The built-in model's vectors are for functions: keys get them where they are scoped and counted."""

from __future__ import annotations

import httpx
import pytest

from functions.knowledge.search.function import search
from shared.function.app import build
from shared.function.catalog import Deployable
from shared.function.process import Process
from shared.identity import Caller, Tokens
from shared.ids import TenantId
from shared.settings import Settings
from tests.fixtures.platform import key_for

NAME = "knowledge-search"


@pytest.mark.parametrize(("whose", "status"), [("key", 403), ("function", 200)])
async def test_a_key_cannot_have_vectors_past_the_gateway(
    whose: str, status: int, settings: Settings, process: Process, tenant: TenantId
) -> None:
    application = build([Deployable(NAME, "functions.knowledge.search.function", search)], settings)
    tokens = await application.process.get(Tokens)
    credential = (
        await key_for(process, tenant)
        if whose == "key"
        else tokens.mint(Caller(tenant, "key:someone", "member", "key"), audience=NAME)
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://platform") as client:
        headers = {"authorization": f"Bearer {credential}"}
        answer = await client.post("/v1/knowledge/embeddings", json={"input": ["a text"]}, headers=headers)
    await application.process.close()
    assert answer.status_code == status
