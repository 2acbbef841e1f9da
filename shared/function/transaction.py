"""The one transaction of a changing call: begun at first need, committed by the runtime before the answer is sent."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.postgres import ControlDatabase, ControlTransaction, TenantDatabase, TenantTransaction


class ManagedTransaction:
    """Wraps a database's `transaction()` so that handler, idempotency and audit share it."""

    def __init__(self, database: TenantDatabase | ControlDatabase) -> None:
        self.database = database
        self._context: AbstractAsyncContextManager[TenantTransaction | ControlTransaction] | None = None
        self._transaction: TenantTransaction | ControlTransaction | None = None

    async def begin(self) -> TenantTransaction | ControlTransaction:
        """The transaction, begun now if it was not yet."""
        if self._transaction is None:
            self._context = self.database.transaction()
            self._transaction = await self._context.__aenter__()
        return self._transaction

    async def commit(self) -> None:
        await self._end(None, None, None)

    async def roll_back(self, failure: BaseException) -> None:
        """End without effect. The failure itself is not raised from here."""
        try:
            await self._end(type(failure), failure, failure.__traceback__)
        except BaseException as raised:
            if raised is not failure:
                raise

    async def _end(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        context, self._context, self._transaction = self._context, None, None
        if context is not None:
            await context.__aexit__(kind, failure, trace)
