"""Our HTTP on both sides and nothing between: what the gateway would cost if it governed nothing.

DCODER_BENCH_UPSTREAM=http://127.0.0.1:1/v1 uvicorn tests.load.gateway.bare:app
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from shared.function.body import whole
from shared.llm.outbound import Providers

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

UPSTREAM = os.environ.get("DCODER_BENCH_UPSTREAM", "")
HEADERS = {b"content-type": b"application/json", b"authorization": b"Bearer sk-none"}
providers = Providers(private=True)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Pass every call on."""
    if scope["type"] != "http":
        return
    answer = await providers.client.send(
        b"POST", UPSTREAM + scope["path"].removeprefix("/v1"), HEADERS, await whole(receive)
    )
    headers = [(b"content-type", answer.headers["content-type"].encode())]
    if "content-length" in answer.headers:
        headers.append((b"content-length", answer.headers["content-length"].encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    while (piece := await answer.read()) is not None:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
