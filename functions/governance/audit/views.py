"""What the audit API answers with."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel


class RecordView(BaseModel):
    seq: int
    id: str
    at: str
    action: str
    resource: str
    actor: str
    outcome: str
    details: dict[str, Any]  # Any: JSON
    sealed_at: datetime


class RecordList(BaseModel):
    records: list[RecordView]


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
