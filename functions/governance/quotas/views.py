"""Quotas as they are asked for and shown over HTTP."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from shared.function.schema import Body
from shared.quotas.limits import AMOUNT_MAX, AtLimit, Metric, Scope
from shared.quotas.making import Limit
from shared.quotas.standing import Standing


class NewQuota(Limit):
    """A limit and whose it is: the tenant's, or that of a key (its id), a member or group that keys belong to, a tag,
    or a model by its provider's name."""

    scope: Scope
    name: str = Field(default="", max_length=200)


class Change(Body):
    amount: int | None = Field(default=None, ge=0, le=AMOUNT_MAX)
    at_limit: AtLimit | None = None


class QuotaView(BaseModel):
    """`window` is `calendar:<unit>`, `rolling:<seconds>` or `ever`."""

    id: int
    scope: Scope
    name: str
    metric: Metric
    window: str
    amount: int
    hard: bool
    at_limit: AtLimit
    by_operator: bool
    """Set by an operator: the tenant cannot change it."""
    created_by: str
    created_at: datetime


class StandingQuota(QuotaView):
    used: int
    reserved: int
    """By calls in flight."""
    resets_at: datetime | None


class QuotaList(BaseModel):
    quotas: list[StandingQuota]


class QuotaState(BaseModel):
    """What the newest `dcoder.quota.updated` event of a quota said. Figures are of that moment: of a quota whose state
    does not change they grow older, and after `resets_at` none of them counts any more."""

    id: int
    version: int
    scope: Scope
    name: str
    metric: Metric
    window: str
    hard: bool
    limit: int
    used: int
    reserved: int
    state: Standing
    """`below`; `reached`: all of a soft limit is used; `spent`: all of a hard one is, or it has turned a call away."""
    resets_at: datetime | None
    told_at: datetime


class QuotaStates(BaseModel):
    states: list[QuotaState]


class Updated(BaseModel):
    """The data of a `dcoder.quota.updated` event. A quota that was taken away is told once, as `removed`."""

    id: int
    version: int
    scope: Scope
    name: str
    metric: Metric
    window: str
    hard: bool
    limit: int
    used: int = 0
    reserved: int = 0
    state: Standing | Literal["removed"]
    resets_at: datetime | None = None
    told_at: datetime
