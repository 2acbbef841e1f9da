"""Where signed checkpoints go besides the database: a file that is only appended to, and the object store."""

from __future__ import annotations

import json
import os
from pathlib import Path

from shared.audit.sealer import Anchor
from shared.errors import Busy, NotFound
from shared.function.process import Process
from shared.ids import PLATFORM, TenantId
from shared.objects import ObjectStore
from shared.telemetry import log


def anchor_of(process: Process) -> Anchor:
    """The anchor of this process. The file must be written, and then the object store may be away; where there are no
    files, the object store must take it."""

    async def anchor(tenant: TenantId, size: int, note: str) -> None:
        if not process.settings.checkpoint_files:
            await keep(await process.get(ObjectStore), tenant, size, note)
            return
        append_line(process.settings.secrets_dir.parent / "checkpoints" / f"{tenant}.jsonl", size, note)
        try:
            await keep(await process.get(ObjectStore), tenant, size, note)
        except (Busy, NotFound) as failure:
            log("checkpoint_not_in_object_store", tenant=tenant, size=size, error=str(failure))

    return anchor


async def keep(store: ObjectStore, tenant: TenantId, size: int, note: str) -> None:
    """Write the checkpoint as an object of its own, in the platform's bucket, which outlives the tenant."""
    objects = store.tenant(PLATFORM)
    key = f"checkpoints/{tenant}/{size:020}"
    try:
        await objects.put(key, note.encode(), "text/plain; charset=utf-8")
    except NotFound:
        await objects.ensure_bucket()
        await objects.put(key, note.encode(), "text/plain; charset=utf-8")


def append_line(path: Path, size: int, note: str) -> None:
    """Append one checkpoint in one write and make it durable. A line that a power cut tore is closed off first."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    line = json.dumps({"size": size, "note": note}, ensure_ascii=False).encode() + b"\n"
    with path.open("a+b", buffering=0) as file:
        torn = file.seek(0, os.SEEK_END) > 0 and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n"
        file.write(b"\n" + line if torn else line)
        os.fsync(file.fileno())
