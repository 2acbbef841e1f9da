"""What the audit API answers with."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel


class RecordView(BaseModel):
    """A sealed record. The log proves all of it but `sealed_at`, which is the database's own remark."""

    seq: int
    id: str
    at: str
    action: str
    resource: str
    actor: str
    outcome: str
    details: dict[str, Any]  # Any: JSON
    request_id: str = ""
    sealed_at: datetime


class RecordList(BaseModel):
    """`next` is what to ask for as `after` to go on; absent at the log's end."""

    records: list[RecordView]
    next: int | None = None


class CheckpointView(BaseModel):
    """`note` is the signed checkpoint; `public_key` is base64."""

    size: int
    note: str
    public_key: str


class Proof(BaseModel):
    """Base64 hashes, lowest first. The leaf is over the previous link, the number and the record."""

    seq: int
    size: int
    leaf: str
    hashes: list[str]
    note: str
