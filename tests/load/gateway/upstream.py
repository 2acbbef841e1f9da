"""A provider that costs almost nothing: fixed bytes over raw sockets, so that what is measured is who stands before it.

    python -m tests.load.gateway.upstream

Prints its base URL. A model whose name begins with `slow` answers after 20 ms, others at once. A stream has a frame
every `GAP_S`; each says its number and when it was sent, the first one also when the request had come (seconds of the
monotonic clock, which all processes of a machine share).
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import cast

import httptools
import uvloop

SLOW_S = 0.020
GAP_S, FRAMES = 0.050, 40
USAGE = {"prompt_tokens": 9, "completion_tokens": 10, "total_tokens": 19}
WHOLE = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_730_000_000,
        "model": "instant",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello there, how can I help you today?"},
                "finish_reason": "stop",
            }
        ],
        "usage": USAGE,
    }
).encode()
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(WHOLE) + WHOLE
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(content: dict[str, object]) -> bytes:
    whole = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_730_000_000, "model": "instant"}
    return chunk(b"data: " + json.dumps(whole | content).encode() + b"\n\n")


def frame(text: str) -> bytes:
    return event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]})


END = (
    event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    + event({"choices": [], "usage": USAGE})
    + chunk(b"data: [DONE]\n\n")
    + b"0\r\n\r\n"
)


class Upstream(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""
        self._streams: set[asyncio.Task[None]] = set()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        body, self._body = self._body.replace(b" ", b""), b""
        if b'"stream":true' in body:
            stream = asyncio.get_running_loop().create_task(self._stream(time.monotonic()))
            self._streams.add(stream)
            stream.add_done_callback(self._streams.discard)
        elif b'"model":"slow' in body:
            asyncio.get_running_loop().call_later(SLOW_S, self._transport.write, ANSWER)
        else:
            self._transport.write(ANSWER)

    async def _stream(self, came: float) -> None:
        self._transport.write(STREAM)
        for number in range(FRAMES):
            await asyncio.sleep(max(0.0, came + number * GAP_S - time.monotonic()))
            if self._transport.is_closing():
                return
            told = f"came={came:.6f} " if number == 0 else ""
            self._transport.write(frame(f"n={number} {told}sent={time.monotonic():.6f} "))
        self._transport.write(END)


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0, backlog=2048)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
