"""An upload's body, from the wire to the bucket, without ever being held in memory."""

from __future__ import annotations

import mimetypes
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.requests import Request

from shared.errors import Invalid

SPOOL_BYTES = 1024 * 1024
ANYTHING = "application/octet-stream"


@asynccontextmanager
async def received(request: Request) -> AsyncIterator[Path]:
    """The body as a file, gone afterwards. The runtime has bounded it. Raises `Invalid` for an empty one."""
    with tempfile.TemporaryDirectory(prefix="dcoder-upload-") as folder:
        path = Path(folder) / "body"
        held = bytearray()
        with path.open("wb") as target:
            async for block in request.stream():
                held += block
                if len(held) >= SPOOL_BYTES:
                    target.write(held)
                    held.clear()
            target.write(held)
        if path.stat().st_size == 0:
            raise Invalid("the body is empty: send the document's bytes, for example with `curl --data-binary @FILE`")
        yield path


def content_type(request: Request, name: str) -> str:
    """What the client said, unless it said nothing in particular; then what the name says."""
    said = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if said and said not in (ANYTHING, "application/x-www-form-urlencoded"):
        return said[:200]
    return mimetypes.guess_type(name)[0] or ANYTHING
