"""A document's own bytes, handed out so that no browser takes them for a page of ours."""

from __future__ import annotations

import tempfile
from pathlib import Path
from urllib.parse import quote

from starlette.background import BackgroundTask
from starlette.responses import FileResponse

from functions.knowledge.documents.ingest import DOCUMENT_BYTES_MAX
from functions.knowledge.documents.listing import Document
from functions.knowledge.documents.names import object_key
from shared.objects import TenantObjects


async def original(objects: TenantObjects, document: Document) -> FileResponse:
    """Streams from a file that is gone afterwards. Raises `NotFound` or `TooLarge`."""
    folder = tempfile.TemporaryDirectory(prefix="dcoder-original-")
    path = Path(folder.name) / "object"
    await objects.get_to_file(object_key(document.name), path, DOCUMENT_BYTES_MAX)
    leaf = quote(document.name.rpartition("/")[2])
    headers = {
        "content-disposition": f"attachment; filename*=UTF-8''{leaf}",
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox",
    }
    return FileResponse(
        path, media_type=document.content_type or None, headers=headers, background=BackgroundTask(folder.cleanup)
    )
