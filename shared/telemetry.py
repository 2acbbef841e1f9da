"""Logs, trace context and the record of each call. One JSON object a line on stderr; never content, never secrets."""

from __future__ import annotations

import json
import os
import re
import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
LEVEL_QUIET = os.environ.get("DCODER_LOG", "") == "quiet"


def log(event: str, **fields: object) -> None:
    """Write one structured line. Values are made text; a line is cut at 8 KiB."""
    if LEVEL_QUIET:
        return
    record = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **fields}
    sys.stderr.write(json.dumps(record, default=str, ensure_ascii=False)[:8192] + "\n")


def traceparent(received: str) -> str:
    """W3C trace context: the caller's trace with a span of ours, or a trace that starts here."""
    trace = received[3:35] if TRACEPARENT.fullmatch(received) else secrets.token_hex(16)
    return f"00-{trace}-{secrets.token_hex(8)}-01"


@dataclass(frozen=True, slots=True)
class CallRecord:
    """What observers learn of a finished call."""

    name: str
    tenant: str
    status: int
    duration_ms: float
    request_id: str
    trace_id: str


Observer = Callable[[CallRecord], None]


def log_failures(record: CallRecord) -> None:
    """The default observer: calls that we failed leave a line; the others are the metrics' business."""
    if record.status >= 500:
        log("call_failed", **{name: getattr(record, name) for name in CallRecord.__slots__})
