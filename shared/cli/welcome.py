"""The first run: makes the demo tenant and its key, ingests the handbook the real way, and asks a first question.

`python -m shared.cli.welcome` prints its progress as JSON lines, the last of which is its result. Killed
anywhere and run again, it goes on where it was.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from shared.cli.client import DEMO, Client, keep_tenant_key
from shared.cli.documents import WAIT_TIMEOUT_S, ask, ingest
from shared.cli.failures import Failed
from shared.cli.keys import create_key
from shared.host.home import Home, find_home
from shared.host.run import HANDBOOK
from shared.host.stack import ROOT
from shared.settings import Settings

QUESTION = "How long does a revoked key keep working?"
KINDS = (".md", ".pdf", ".docx")


def main() -> int:
    home, settings = find_home(), Settings.from_environment()
    try:
        result = welcome(home, settings)
    except Failed as failure:
        emit("result", message=f"{failure.what} ({failure.why})" if failure.why else failure.what)
        return 1
    emit("result", **result)
    return 0


def welcome(home: Home, settings: Settings) -> dict[str, object]:
    """Whatever is missing of tenant, key, handbook and first answer. A failed handbook is a warning: the stack runs."""
    operator = Client(settings.platform_url, str(home.read("secrets/keys.json").get("admin_key", "")))
    made_key = ensure_tenant(home, operator)
    result: dict[str, object] = {"tenant": DEMO, "made_key": made_key}
    if home.read("secrets/keys.json").get("welcomed") or os.environ.get(HANDBOOK) == "skip":
        return result
    try:
        return result | first_answer(home, settings)
    except Failed as failure:
        emit("warning", text=f"the handbook was not ingested: {failure.what}. Later: ./dcoder ingest docs")
        return result | {"warning": failure.document()}


def ensure_tenant(home: Home, operator: Client) -> bool:
    """Create the demo tenant and its key unless they are there. Returns whether a key was made."""
    kept = home.read("secrets/keys.json").get("tenants")
    if isinstance(kept, dict) and kept.get(DEMO):
        return False
    try:
        operator.call("POST", "/v1/tenants", {"name": DEMO})
        emit("step", text=f"tenant {DEMO} with a database of its own")
    except Failed as failure:
        if "409" not in failure.why:
            raise
    keep_tenant_key(home, DEMO, str(create_key(operator, DEMO, "admin", name="demo")["key"]))
    return True


def first_answer(home: Home, settings: Settings) -> dict[str, object]:
    """Ingest the handbook through the bucket, and ask the first question through the OpenAI-compatible endpoint."""
    key = str(keys_of(home)[DEMO])
    files = handbook(ROOT)
    ingested = ingest(
        files,
        settings=settings,
        client=Client(settings.platform_url, key),
        tenant=DEMO,
        timeout_s=WAIT_TIMEOUT_S,
        tell=lambda line: emit("step", text=line),
    )
    emit("step", text=f"{len(files)} handbook files are searchable")
    if not ingested["ok"]:
        raise Failed("some of the handbook's files were refused", why="`./dcoder ingest docs` names them")
    answer = ask(Client(settings.llm_url, key), QUESTION)
    home.write("secrets/keys.json", {**home.read("secrets/keys.json"), "welcomed": True})
    return {"question": QUESTION, **answer}


def keys_of(home: Home) -> Mapping[str, object]:
    kept = home.read("secrets/keys.json").get("tenants")
    return kept if isinstance(kept, dict) else {}


def handbook(root: Path) -> dict[str, Path]:
    """The project's own documentation by document name: Markdown, and the PDF and DOCX beside it."""
    files = sorted(
        file
        for file in (root / "docs").rglob("*")
        if file.suffix in KINDS and "tutorials" not in file.parts  # transcripts quote questions; they answer none
    )
    return {str(file.relative_to(root)): file for file in files}


def emit(event: str, **details: object) -> None:
    sys.stdout.write(json.dumps({"event": event, **details}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
