"""Group commit: what comes while one statement runs goes together into the next."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from shared.errors import Busy, Unavailable

T = TypeVar("T")
R = TypeVar("R")
BATCH_MAX = 500
WAITING_MAX = 20_000


class GroupCommit(Generic[T, R]):
    """One writer for a kind of row. `write` takes a batch and answers for each of it, in order."""

    def __init__(
        self,
        write: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        *,
        name: str,
        gather_s: float = 0.0,
        rest_s: float = 0.0,
    ) -> None:
        """`gather_s` is waited before each batch, `rest_s` after each of several items."""
        self._write = write
        self._name = name
        self._gather_s = gather_s
        self._rest_s = rest_s
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._writing: asyncio.Task[None] | None = None
        self.failing = False
        """Whether the last batch could not be written."""

    def put(self, item: T) -> asyncio.Future[R]:
        """Have it written with the next batch. The future has the answer once it is on disk, or what failed."""
        written: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        if len(self._waiting) >= WAITING_MAX:
            written.set_exception(Unavailable(f"too many {self._name} wait to be written", retry_after_s=5))
            return written
        self._waiting.append((item, written))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._run(), name=self._name)
        return written

    async def close(self, timeout_s: float) -> None:
        """Wait until all is written, for so long at most."""
        if self._writing is not None:
            await asyncio.wait({self._writing}, timeout=timeout_s)

    async def _run(self) -> None:
        while self._waiting:
            if self._gather_s:
                await asyncio.sleep(self._gather_s)
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH_MAX))]
            await self._commit(batch)
            if self._rest_s and len(batch) > 1:
                await asyncio.sleep(self._rest_s)

    async def _commit(self, batch: Sequence[tuple[T, asyncio.Future[R]]]) -> None:
        try:
            answers = await self._write([item for item, _ in batch])
        except Exception as failure:  # noqa: BLE001  whatever it is, those who wait have to hear of it
            self.failing = True
            if len(batch) > 1 and not isinstance(failure, Busy):
                for one in batch:  # a row that cannot be written must not keep the others from it
                    await self._commit([one])
                return
            for _, written in batch:
                if not written.done():
                    written.set_exception(failure)
                    written.exception()  # noted: whoever waits hears of it, and who does not need not
            return
        self.failing = False
        for (_, written), answer in zip(batch, answers, strict=True):
            if not written.done():
                written.set_result(answer)
