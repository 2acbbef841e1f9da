"""A process that serves functions with uvicorn, and what may run beside them.

`python -m shared.host.functions` serves functions alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Sequence

from shared.host.stack import LISTENER

APP = "functions.entry:app"
"""By name only: shared never imports functions."""
GRACE_S = 10

Task = Callable[[], Awaitable[None]]


async def serve(beside: Sequence[Task] = ()) -> None:
    """Serve `DCODER_FUNCTION`'s functions on the inherited socket until SIGTERM, the tasks beside as long."""
    import uvicorn

    from shared.function.protocol import BoundedProtocol

    configuration = uvicorn.Config(
        APP,
        http=BoundedProtocol,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    server = uvicorn.Server(configuration)
    serving = asyncio.create_task(server.serve([inherited()]), name="serve")
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


def inherited() -> socket.socket:
    """The listening socket that the host opened for this process."""
    return socket.socket(fileno=int(os.environ[LISTENER]))


def run_until_stopped(beside: Sequence[Task] = ()) -> None:
    """`serve` on uvloop, quiet about the signal that ended it."""
    import uvloop

    os.environ.setdefault("DCODER_LOG", "")
    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        uvloop.run(serve(beside))


if __name__ == "__main__":
    run_until_stopped()
