"""The parser's own process: takes one request on stdin, answers one document on stdout, and ends.

A file that exhausts time or memory, or crashes a library, ends this process and nothing else. It has no secrets in
its environment, opens no socket, starts no program and ends with its parent.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
from pathlib import Path

from functions.knowledge.documents.parsers.outline import TEXT_CHARS_MAX, Parsed, Unparseable, storable

FORBIDDEN_EVENTS = ("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork", "urllib.")


def main() -> None:
    request = json.loads(sys.stdin.buffer.readline() or b"{}")
    if not request:
        return
    threading.Thread(target=end_with_parent, daemon=True).start()
    limit(request["cpu_s"], request["memory_bytes"])
    answer = json.dumps(answer_to(Path(request["path"]), request["name"])).encode()
    sys.stdout.buffer.write(answer)
    sys.stdout.buffer.flush()
    os._exit(0)


def end_with_parent() -> None:
    """The parent holds our stdin open as long as it lives."""
    sys.stdin.buffer.read()
    os._exit(3)


def limit(cpu_s: int, memory_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    sys.addaudithook(refuse)


def refuse(event: str, arguments: tuple[object, ...]) -> None:
    if event.startswith(FORBIDDEN_EVENTS):
        raise PermissionError(f"a parser may not do {event}")


def answer_to(path: Path, name: str) -> dict[str, object]:
    try:
        parsed = parse(path, name)
    except Unparseable as flaw:
        return {"reason": flaw.reason, "detail": flaw.detail}
    except MemoryError:
        return {"reason": "parse_memory", "detail": "parsing needs more memory than a parser is given"}
    except RecursionError:
        return {"reason": "corrupt", "detail": "the document is nested too deeply"}
    except Exception as flaw:  # noqa: BLE001  the edge of the process: a library's crash on a bad file is that file's
        return {"reason": "corrupt", "detail": f"{type(flaw).__name__}: {flaw}"[:300]}
    blocks = [(block.kind, block.start, block.end, block.page, block.heading) for block in parsed.blocks]
    return {"text": parsed.text, "blocks": blocks, "note": parsed.note}


def parse(path: Path, name: str) -> Parsed:
    """Text and blocks of a file. Raises `Unparseable`."""
    from functions.knowledge.documents.parsers.sniff import sniff

    kind = sniff(path, name)
    parsed = parse_as(kind.format, path)
    if not parsed.text.strip():
        raise Unparseable("no_text", "the document has no text; scanned pages need a text layer")
    return Parsed(parsed.text, parsed.blocks, kind.note)


def parse_as(format_name: str, path: Path) -> Parsed:
    from functions.knowledge.documents.parsers import markup, office, pdf, plain, tables

    if format_name == "pdf":
        return pdf.parse_pdf(path)
    if format_name == "docx":
        return office.parse_docx(path)
    if format_name == "pptx":
        return office.parse_pptx(path)
    if format_name == "xlsx":
        return tables.parse_xlsx(path)
    of_text = {
        "markdown": plain.parse_markdown,
        "html": markup.parse_html,
        "csv": tables.parse_csv,
        "json": tables.parse_json,
        "code": plain.parse_code,
    }
    return of_text.get(format_name, plain.parse_text)(source_text(path))


def source_text(path: Path) -> str:
    from functions.knowledge.documents.parsers.sniff import decoded

    if path.stat().st_size > 4 * TEXT_CHARS_MAX:
        raise Unparseable("too_large", f"a text of more than {TEXT_CHARS_MAX} characters is not taken")
    text = storable(decoded(path.read_bytes()))
    if len(text) > TEXT_CHARS_MAX:
        raise Unparseable("too_large", f"a text of more than {TEXT_CHARS_MAX} characters is not taken")
    return text
