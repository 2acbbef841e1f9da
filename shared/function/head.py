"""The head of a request: what the runtime itself reads of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from shared.errors import Malformed

LENGTH_DIGITS_MAX = 18
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{8,128}")


@dataclass(slots=True)
class Head:
    """The request headers that the runtime itself reads, in one pass."""

    credential: str = ""
    content_length: int = -1
    idempotency_key: str = ""
    traceparent: str = ""
    request_id: str = ""
    content_type: str = ""


def read_head(headers: Iterable[tuple[bytes, bytes]]) -> Head:
    """Raises `Malformed` for a content length that is no number."""
    head = Head()
    for name, value in headers:
        if name == b"authorization":
            scheme, _, credential = value.decode("latin-1").partition(" ")
            head.credential = credential.strip() if scheme.lower() == "bearer" else ""
        elif name == b"x-api-key" and not head.credential:
            head.credential = value.decode("latin-1")
        elif name == b"content-length":
            if not value.isdigit() or len(value) > LENGTH_DIGITS_MAX:
                raise Malformed("Content-Length is not a usable number")
            head.content_length = int(value)
        elif name == b"idempotency-key":
            head.idempotency_key = value.decode("latin-1")
        elif name == b"traceparent":
            head.traceparent = value.decode("latin-1")
        elif name == b"content-type":
            head.content_type = value.decode("latin-1").partition(";")[0].strip().lower()
        elif name == b"x-request-id":
            text = value.decode("latin-1")
            head.request_id = text if REQUEST_ID.fullmatch(text) else ""
    return head
