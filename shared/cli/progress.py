"""What a person sees while the stack starts, and the block at the end."""

from __future__ import annotations

from collections.abc import Mapping

from shared.cli.output import say
from shared.host.home import Home

LABELS = {
    "postgres": "PostgreSQL 18 with pgvector",
    "nats": "NATS JetStream",
    "redis": "Valkey",
    "objects": "SeaweedFS (S3)",
    "control database": "control database",
    "platform": "platform functions",
    "gateway": "LLM gateway",
    "translate": "translator of LLM calls",
}


class Progress:
    """Says each step once it is done."""

    def show(self, event: str, details: Mapping[str, object]) -> None:
        line = progress_line(event, details)
        if line:
            say(line)


SOURCES = "\n\nSources:\n"
"""What the answerer appends for clients that show text only; here each citation is printed in full instead."""
LINES: Mapping[str, str] = {
    "started": "  ✓ {label:<30} {seconds:>6} s",
    "moved": "  ! port {wanted} is taken, so {name} listens on {port}",
    "replanning": "  ! a port was taken meanwhile; starting again on others",
    "leftover": "  ! stopped {label}, left over from a host that was killed",
    "restarting": "  ! {label} {why}; restarting in {after_s} s",
    "restarted": "  ✓ {label} is back",
    "failed": "  ✗ {label}: {why}",
    "step": "  ✓ {text}",
    "warning": "  ! {text}",
    "stopping": "stopping …",
    "down": "stopped; nothing is left running",
}


def progress_line(event: str, details: Mapping[str, object]) -> str:
    """One event as a line, or nothing for an event that is not worth one."""
    name = str(details.get("name", ""))
    return LINES.get(event, "").format(**{"label": LABELS.get(name, name), **details})


def block(document: Mapping[str, object], home: Home, *, first: bool) -> str:
    """The one block at the end: the first answer when there is one, where everything is, what to try next."""
    if document.get("stores_only"):
        return f"The stores are up ({document['started_in_s']} s); objects at {document['objects_url']}"
    welcome = document.get("welcome")
    answered = welcome.get("answer") if isinstance(welcome, dict) and first else None
    lines = answer_lines(welcome) if answered and isinstance(welcome, dict) else []
    made = isinstance(welcome, dict) and bool(welcome.get("made_key"))
    key = document["tenant_key"] if made and first else f"(kept in {home.secrets / 'keys.json'})"
    lines += [
        "",
        f"D.Coder is up ({document['started_in_s']} s)",
        f"  platform   {document['platform_url']}",
        f"  LLM        {document['llm_url']}/v1  OpenAI-compatible, models: doc-chat and your providers'",
        f"  objects    {document['objects_url']}  bucket {document['objects_bucket']}, S3-compatible",
        f"  tenant     {document['tenant']}",
        f"  key        {key}" + ("  shown once" if made and first else ""),
        "",
        "Try next:",
        '  ./dcoder ask "What happens when a document cannot be parsed?"',
        "  ./dcoder ingest path/to/your/documents",
        "  ./dcoder usage",
        "  ./dcoder audit verify",
        "  ./dcoder doctor",
    ]
    return "\n".join(lines)


def answer_lines(answered: Mapping[str, object]) -> list[str]:
    """A question, its answer and its citations."""
    lines = ["", f"Q  {answered['question']}"] if answered.get("question") else []
    citations = answered.get("citations")
    answer = str(answered["answer"])
    lines.append(f"A  {answer.partition(SOURCES)[0] if citations else answer}")
    for number, citation in enumerate(citations if isinstance(citations, list) else [], start=1):
        page = f", page {citation['page']}" if citation.get("page") else ""
        lines.append(f"   [{number}] {citation['document']}{page}, characters {citation['start']}–{citation['end']}")
        lines.append(f"       “{' '.join(str(citation['quote']).split())}”")
    return lines
