"""A process that serves functions with uvicorn, and what may run beside them."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlsplit

APP = "functions.entry:app"
"""By name only: shared never imports functions."""
GRACE_S = 10

Task = Callable[[], Awaitable[None]]


async def serve(url: str, beside: Sequence[Task] = ()) -> None:
    """Serve `DCODER_FUNCTION`'s functions at `url` until SIGTERM; the tasks start when it listens, and end with it."""
    import uvicorn

    address = urlsplit(url)
    configuration = uvicorn.Config(
        APP,
        host=address.hostname or "127.0.0.1",
        port=address.port or 80,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    server = uvicorn.Server(configuration)
    serving = asyncio.create_task(server.serve(), name="serve")
    while not server.started and not serving.done():  # noqa: ASYNC110  uvicorn has no event for it
        await asyncio.sleep(0.01)
    running = [asyncio.ensure_future(task()) for task in beside]
    try:
        done, _ = await asyncio.wait([serving, *running], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        server.should_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await serving


def run_until_stopped(url: str, beside: Sequence[Task] = ()) -> None:
    """`serve` on uvloop, quiet about the signal that ended it."""
    import uvloop

    os.environ.setdefault("DCODER_LOG", "")
    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        uvloop.run(serve(url, beside))
