"""Logs, trace context and the record of each call. One JSON object a line on stderr; never content, never secrets."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
"""W3C Trace Context level 1, §3.2. A version yet to come may have more after the flags."""
SAMPLED = 1
LEVEL_QUIET = os.environ.get("DCODER_LOG", "") == "quiet"


def log(event: str, **fields: object) -> None:
    """Write one structured line. Values are made text; a line is cut at 8 KiB."""
    if LEVEL_QUIET:
        return
    record = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **fields}
    sys.stderr.write(json.dumps(record, default=str, ensure_ascii=False)[:8192] + "\n")


def traceparent(received: str) -> str:
    """W3C trace context: the caller's trace with a span of ours, or a trace that starts here. Who does not have its
    trace recorded gets that passed on."""
    span = os.urandom(8).hex()
    if not received or not is_traceparent(received):
        return f"00-{os.urandom(16).hex()}-{span}-01"
    return f"00-{received[3:35]}-{span}-{int(received[53:55], 16) & SAMPLED:02x}"


def is_traceparent(text: str) -> bool:
    return bool(TRACEPARENT.fullmatch(text)) and (len(text) == 55 or not text.startswith("00"))


@dataclass(frozen=True, slots=True)
class CallRecord:
    """What observers learn of a finished call. `received` is the trace context that its caller sent."""

    name: str
    method: str
    route: str
    tenant: str
    status: int
    duration_ms: float
    ended_ns: int
    """Since 1970."""
    request_id: str
    traceparent: str
    received: str


Observer = Callable[[CallRecord], None]


def log_failures(record: CallRecord) -> None:
    """The default observer: calls that we failed leave a line; the others are the metrics' business."""
    if record.status >= 500:
        log(
            "call_failed",
            name=record.name,
            tenant=record.tenant,
            status=record.status,
            duration_ms=record.duration_ms,
            request_id=record.request_id,
            trace_id=record.traceparent[3:35],
        )
