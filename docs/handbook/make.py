"""Makes the handbook's PDF and DOCX: `python docs/handbook/make.py`. Their content is below, once."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
LINE_CHARS = 88
LINES_PER_PAGE = 46

SECURITY: Sequence[tuple[str, Sequence[str]]] = (
    (
        "Security overview",
        (
            "This overview is for the people who decide whether D.Coder may hold a company's documents. It says "
            "what separates tenants, which secrets exist, how access is given and taken away, and what evidence "
            "remains.",
        ),
    ),
    (
        "Separation of tenants",
        (
            "Every tenant has a PostgreSQL database of its own, owned by a role that can connect to that database and "
            "to no other. A routing mistake in the platform ends in PostgreSQL refusing the connection, not in a leak.",
            "Every tenant has an object bucket of its own, named dcoder- and the tenant's name. Chunks, vectors and "
            "the text that answers cite lie in the tenant's database. The control database holds no document.",
            "An id that belongs to another tenant is answered with 404, exactly as an id that never existed.",
        ),
    ),
    (
        "Keys and access",
        (
            "A virtual key is shown once, when it is created. The platform stores a keyed hash of it, never the key.",
            "The roles are admin, member, viewer and, for the platform itself, operator. A viewer reads documents and "
            "uses models; a member also uploads and deletes documents; an admin also manages keys and reads the audit "
            "log.",
            "A revoked key stops working everywhere within one second. Rotation gives a new key with the same rights, "
            "and the old one keeps working for an overlap that the caller chooses.",
            "Functions call each other with Ed25519 tokens that are bound to one tenant and one function, for minutes.",
        ),
    ),
    (
        "Secrets at rest",
        (
            "Provider keys are sealed with AES-256-GCM under the tenant's own data key. The data key is wrapped by the "
            "root key, which is a file outside every database, readable by its owner only.",
            "Deleting a tenant destroys its data key, so that every secret in an old backup becomes unreadable.",
        ),
    ),
    (
        "Hostile documents",
        (
            "Files are parsed in a child process that has no secrets in its environment and opens no socket. "
            "It may use 60 seconds of processor time, 120 seconds in all and 1 GiB of address space.",
            "A ZIP archive that would unpack to more than 400 MB, or to more than 200 times its own size, is "
            "quarantined as zip_bomb before it is unpacked. XML entities in Office files are refused.",
            "A file that crashes its parser, or whose ingestion breaks off three times, is quarantined. It holds up no "
            "other document.",
        ),
    ),
    (
        "Evidence",
        (
            "Each change commits together with its audit record. Refused calls are recorded as well. A sealer chains "
            "the records, builds a Merkle tree over them and signs its root with Ed25519.",
            "Signed checkpoints are also written outside the database, so that a log that was cut short is found by "
            "anyone who kept one. The command dcoder audit verify needs no server.",
        ),
    ),
    (
        "Data retention",
        (
            "A deleted document is gone from the bucket, the stored text and every index at once. What stays is the "
            "audit record that says who deleted it and when.",
            "Deleting a tenant drops its database and role, empties its bucket and leaves a tombstone in the "
            "platform's audit log.",
        ),
    ),
)

RUNBOOK: Sequence[tuple[str, Sequence[str]]] = (
    (
        "Daily checks",
        (
            "Run dcoder doctor. It checks each server, each process and each store, and names the command that repairs "
            "what it finds.",
            "Look at the dead letters. Each is an event that was given up, with its reason; after the cause is "
            "repaired, re-drive it.",
        ),
    ),
    (
        "A document is not searchable",
        (
            "Read its state. Queued documents have a position; parsing and embedding ones have a progress. Both hold a "
            "lease of 30 seconds that their worker renews, so work that died is taken up again.",
            "Every 15 minutes a schedule compares bucket and index both ways and announces again what was missed.",
            "Rejected means the file itself is at fault; quarantined means that it broke a limit of the parser's. "
            "Uploading the document again puts it back into the queue.",
        ),
    ),
    (
        "After a crash",
        (
            "Run dcoder up again. It stops what a killed host left behind and starts the servers. Nothing that was "
            "acknowledged is lost: undelivered events wait in JetStream, and uncommitted transactions never happened.",
        ),
    ),
    (
        "Backup and restore",
        (
            "Back up four things together: the PostgreSQL cluster, the object store, the key files of the secrets "
            "folder, and the audit checkpoints. Keep the key files apart from the database backup.",
            "Without root.key no sealed provider key can be opened. Without audit.key no new checkpoint can be signed, "
            "but every old one can still be verified.",
            "After a restore, reconciliation brings the index to what the buckets hold. Run dcoder audit verify with a "
            "checkpoint from before the restore to see whether records are missing.",
        ),
    ),
    (
        "Incident response",
        (
            "If a virtual key leaked, revoke it first; it stops within one second. Then read the audit log for what "
            "was done with it, and export the records with their proofs before anything else is changed.",
            "If a tenant's provider key leaked, replace it at the provider and then in the tenant's secrets.",
        ),
    ),
)
REASONS = (
    ("Reason", "State", "What to do"),
    ("empty", "rejected", "Upload the file again; it has no bytes."),
    ("encrypted", "rejected", "Remove the password and upload it again."),
    ("corrupt", "rejected", "Repair or export the file anew; it is truncated or damaged."),
    ("too_large", "rejected", "Split it: at most 100 MB, 5000 pages and 20 million characters are taken."),
    ("unsupported", "rejected", "Convert it to a format that is understood."),
    ("no_text", "rejected", "Run text recognition; the pages are pictures."),
    ("zip_bomb", "quarantined", "Do not open it; it would unpack to far more than it is."),
    ("parse_timeout", "quarantined", "Split or simplify the file."),
    ("parse_memory", "quarantined", "Split or simplify the file."),
    ("parser_crash", "quarantined", "Report it with the file, if it may be shared."),
    ("attempts_exhausted", "quarantined", "Read the log of the platform for what broke off."),
)


def pdf_lines() -> list[tuple[str, int]]:
    """Lines with their font size."""
    lines: list[tuple[str, int]] = []
    for title, paragraphs in SECURITY:
        lines += [(title, 14), ("", 10)]
        for paragraph in paragraphs:
            lines += [(line, 10) for line in textwrap.wrap(paragraph, LINE_CHARS)] + [("", 10)]
    return lines


def pdf_page(lines: Sequence[tuple[str, int]]) -> bytes:
    """A page's content stream: Helvetica, top to bottom."""
    commands = ["BT", "16 TL", "64 780 Td"]
    for text, size in lines:
        escaped = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
        commands += [f"/F1 {size} Tf", f"({escaped}) Tj", "T*"]
    return "\n".join([*commands, "ET"]).encode("latin-1")


def pdf(pages: Sequence[bytes]) -> bytes:
    """A PDF 1.4 file of these content streams (ISO 32000-1, 7.5)."""
    kids = " ".join(f"{4 + 2 * index} 0 R" for index in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Count {len(pages)} /Kids [{kids}] >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for index, page in enumerate(pages):
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents {5 + 2 * index} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>".encode()
        )
        objects.append(b"<< /Length %d >>\nstream\n%b\nendstream" % (len(page), page))
    return assembled(objects)


def assembled(objects: Sequence[bytes]) -> bytes:
    """Objects, cross-reference table and trailer."""
    body = bytearray(b"%PDF-1.4\n")
    places = []
    for number, content in enumerate(objects, start=1):
        places.append(len(body))
        body += b"%d 0 obj\n%b\nendobj\n" % (number, content)
    table = len(body)
    body += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    body += b"".join(b"%010d 00000 n \n" % place for place in places)
    body += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, table)
    return bytes(body)


def make_pdf(path: Path) -> None:
    lines = pdf_lines()
    pages = [lines[start : start + LINES_PER_PAGE] for start in range(0, len(lines), LINES_PER_PAGE)]
    path.write_bytes(pdf([pdf_page(page) for page in pages]))


def make_docx(path: Path) -> None:
    import docx

    document = docx.Document()
    document.add_heading("Operations runbook", level=0)
    for title, paragraphs in RUNBOOK:
        document.add_heading(title, level=1)
        for paragraph in paragraphs:
            document.add_paragraph(paragraph)
    document.add_heading("Why a document was refused", level=1)
    table = document.add_table(rows=0, cols=3)
    for row in REASONS:
        for cell, text in zip(table.add_row().cells, row, strict=True):
            cell.text = text
    document.save(str(path))


if __name__ == "__main__":
    make_pdf(HERE / "security-overview.pdf")
    make_docx(HERE / "operations-runbook.docx")
