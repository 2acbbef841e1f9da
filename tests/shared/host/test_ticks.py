"""The local timer."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from starlette.types import Receive, Scope, Send

from shared.clock import Clock
from shared.host.ticks import Ticks, next_minute
from tests.fixtures.waiting import until


def test_the_next_wake_up_is_at_the_next_full_minute() -> None:
    assert next_minute(datetime(2026, 3, 29, 0, 59, 59, 999_999, UTC)) == datetime(2026, 3, 29, 1, 0, tzinfo=UTC)
    assert next_minute(datetime(2026, 3, 29, 1, 0, tzinfo=UTC)) == datetime(2026, 3, 29, 1, 1, tzinfo=UTC)


class Jumping(Clock):
    """Each look at the clock shows the next of the given times, and then the last."""

    def __init__(self, *times: datetime) -> None:
        self.times = list(times)

    def now(self) -> datetime:
        return self.times.pop(0) if len(self.times) > 1 else self.times[0]


@pytest.mark.parametrize("jumped_to", [datetime(2026, 1, 1, 9, tzinfo=UTC), datetime(2026, 1, 1, 15, tzinfo=UTC)])
async def test_a_clock_that_jumps_does_not_make_the_timer_sleep_on(jumped_to: datetime) -> None:
    clock = Jumping(datetime(2026, 1, 1, 12, 0, 1, tzinfo=UTC), jumped_to)
    ticks = Ticks("http://127.0.0.1:9/", lambda: "token", clock)
    await asyncio.wait_for(ticks._until_next_minute(), 1.0)


async def test_a_wake_up_carries_the_credential_and_a_refused_one_is_not_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import uvicorn

    from shared.host import ticks as module
    from tests.fixtures.ports import free_port

    monkeypatch.setattr(module, "RETRY_S", 0.01)
    seen: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(dict(scope["headers"])[b"authorization"])
        await send({"type": "http.response.start", "status": 503 if len(seen) < 3 else 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", lifespan="off"))
    serving = asyncio.create_task(server._serve())
    ticking = asyncio.create_task(Ticks(f"http://127.0.0.1:{port}/v1/schedules/tick", lambda: "t").run())
    try:
        await until(lambda: len(seen) >= 3)
    finally:
        ticking.cancel()
        server.should_exit = True
        await serving
    assert seen[:3] == [b"Bearer t"] * 3
