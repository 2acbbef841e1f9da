"""`ingest` and `ask`."""

from __future__ import annotations

import asyncio
import json
import mimetypes
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click

from shared.cli.client import DEMO, Client, gateway_as, platform_as, running
from shared.cli.failures import Failed, Misused
from shared.cli.output import Result, command, rows_of, say
from shared.cli.progress import answer_lines
from shared.ids import TenantId
from shared.settings import Settings

FILES_MAX = 10_000
WAIT_TIMEOUT_S = 600.0
WAIT_POLL_S = 0.1
FINAL_STATES = frozenset({"searchable", "rejected", "quarantined"})
tenant_option = click.option("--tenant", default=DEMO, show_default=True, help="Whose documents.")
Tell = Callable[[str], None]


@command(lambda result: ingested_text(result), name="ingest")
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path), metavar="PATH…")
@tenant_option
@click.option("--timeout", "timeout_s", default=WAIT_TIMEOUT_S, show_default=True, help="Seconds to wait at most.")
def ingest_command(paths: tuple[Path, ...], tenant: str, timeout_s: float) -> Result:
    """Put files, or all files of folders, into the tenant's bucket and wait until each is searchable."""
    _, record = running()
    files = named_files(paths)
    environment = record.get("environment")
    settings = Settings.from_environment(environment if isinstance(environment, dict) else {})
    return ingest(files, settings=settings, client=platform_as(tenant), tenant=tenant, timeout_s=timeout_s)


def named_files(paths: Sequence[Path]) -> dict[str, Path]:
    """Document name → file. A folder's files are named by their path from the folder's parent."""
    found: dict[str, Path] = {}
    for path in paths:
        whole = path.resolve()
        for file in sorted(whole.rglob("*")) if whole.is_dir() else [whole]:
            if file.is_file() and not any(part.startswith(".") for part in file.relative_to(whole.parent).parts):
                found[str(file.relative_to(whole.parent))] = file
    if not found:
        raise Misused(
            "there is no file to ingest", why="the paths are empty folders or hidden files", fix="dcoder ingest docs"
        )
    if len(found) > FILES_MAX:
        raise Misused(f"{len(found)} files are more than {FILES_MAX} at once", fix="ingest folder by folder")
    return found


def ingest(
    files: Mapping[str, Path], *, settings: Settings, client: Client, tenant: str, timeout_s: float, tell: Tell = say
) -> dict[str, object]:
    """Upload by S3 and wait for the event, the parsing and the indexing that follow."""
    refused = unusable(files)
    usable = {name: file for name, file in files.items() if name not in refused}
    etags = asyncio.run(upload(usable, settings, TenantId(tenant)))
    tell(f"uploaded {len(usable)} files to bucket dcoder-{tenant}; waiting until they are searchable")
    documents = [*wait_until_final(client, etags, timeout_s), *refused.values()]
    good = all(row.get("state") == "searchable" for row in documents)
    return {"ok": good, "tenant": tenant, "documents": documents}


def unusable(files: Mapping[str, Path]) -> dict[str, dict[str, object]]:
    """The files whose names the store does not take, as rows; they hold up no other file."""
    from shared.objects import key_flaw

    flaws = {name: key_flaw(f"documents/{name}") for name in files}
    return {
        name: {"name": name, "state": "rejected", "reason": "unusable_name", "detail": f"{flaw}; rename the file"}
        for name, flaw in flaws.items()
        if flaw
    }


async def upload(files: Mapping[str, Path], settings: Settings, tenant: TenantId) -> dict[str, str]:
    """Put each file at `documents/<name>`. Returns its ETag by name."""
    from shared.objects import ObjectStore

    store = ObjectStore(settings)
    objects = store.tenant(tenant)
    etags = {}
    for name, file in files.items():
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        head = await objects.put(f"documents/{name}", file, kind)
        etags[name] = head.etag
    return etags


def wait_until_final(client: Client, etags: Mapping[str, str], timeout_s: float) -> list[dict[str, object]]:
    """Poll until every document has reached a final state for the version that was uploaded."""
    deadline = time.monotonic() + timeout_s
    while True:
        listed = {str(row["name"]): dict(row) for row in list_documents(client)}
        rows = [listed.get(name, {"name": name, "state": "announced"}) for name in etags]
        waiting = [row for row in rows if not is_final(row, etags[str(row["name"])])]
        if not waiting:
            return rows
        if time.monotonic() > deadline:
            names = ", ".join(str(row["name"]) for row in waiting[:5])
            raise Failed(
                f"{len(waiting)} of {len(rows)} documents are not searchable after {timeout_s:.0f} s: {names}",
                why=f"the first is in state {waiting[0].get('state')!r}",
                fix="dcoder doctor, then dcoder logs platform",
            )
        time.sleep(WAIT_POLL_S)


def is_final(row: Mapping[str, object], etag: str) -> bool:
    return row.get("state") in FINAL_STATES and row.get("etag", etag) == etag


def list_documents(client: Client) -> list[Mapping[str, object]]:
    """Every document of the tenant, page by page."""
    rows: list[Mapping[str, object]] = []
    cursor = ""
    while True:
        page = client.call(
            "GET", "/v1/documents", query={"limit": "500", **({"cursor": cursor} if cursor else {})}
        ).json()
        rows += rows_of(page, "documents")
        cursor = str(page.get("next_cursor") or "")
        if not cursor:
            return rows


def ingested_text(result: Result) -> str:
    return "\n".join(
        f"{row['state']:<12} {printable(str(row['name']))}"
        + (f"  ({row['reason']}: {row.get('detail')})" if row.get("reason") else "")
        for row in rows_of(result, "documents")
    )


def printable(name: str) -> str:
    """A file's name on one line, whatever it holds."""
    return name if name.isprintable() else repr(name)


@command(lambda result: "\n".join(answer_lines(result)).strip(), name="ask")
@click.argument("question")
@tenant_option
@click.option("--model", default="doc-chat", show_default=True)
def ask_command(question: str, tenant: str, model: str) -> Result:
    """Ask a question; the answer cites the passages that it rests on."""
    if not question.strip():
        raise Misused("the question is empty", fix='dcoder ask "How do I add a tenant?"')
    return ask(gateway_as(tenant), question, model=model)


def ask(client: Client, question: str, *, model: str = "doc-chat") -> dict[str, object]:
    """One question to the OpenAI-compatible endpoint."""
    body = {"model": model, "messages": [{"role": "user", "content": question}]}
    completion = client.call("POST", "/v1/chat/completions", body).json()
    choices = completion.get("choices")
    if not isinstance(choices, list) or not choices:
        raise Failed("the gateway sent no answer", why=json.dumps(completion)[:500], fix="dcoder logs gateway")
    message = choices[0]["message"]
    return {
        "answer": message.get("content") or "",
        "citations": message.get("citations") or completion.get("citations") or [],
        "model": completion.get("model", model),
        "usage": completion.get("usage") or {},
    }
