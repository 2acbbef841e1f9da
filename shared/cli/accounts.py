"""`usage` and `audit verify`."""

from __future__ import annotations

import base64
import json
import tempfile
from pathlib import Path

import click

from shared.cli.client import DEMO, Client, platform_as, platform_as_operator, running
from shared.cli.failures import Misused
from shared.cli.output import Result, command, rows_of, say, table
from shared.host.home import Home

PLATFORM = "platform"
tenant_option = click.option("--tenant", default=DEMO, show_default=True, help="Whose.")
MICRO = 1_000_000
GROUPS = ("day", "model", "provider", "feature", "key", "member", "group", "tag", "tenant")
KEY_BYTES = 32


def usage_text(result: Result) -> str:
    if "csv" in result:
        return str(result["csv"]).removesuffix("\r\n")
    rows = [
        [group_text(row), row["calls"], row["input_tokens"], row["output_tokens"], cost_text(row), usd(row, "saved")]
        for row in rows_of(result, "rows")
    ]
    return table(rows, head=[str(result.get("by", "")), "calls", "tokens in", "tokens out", "cost USD", "saved USD"])


def group_text(row: Result) -> str:
    """A key's id with what people call it."""
    return f"{row['group']} {row['name']}".strip() if row.get("name") else str(row["group"])


def cost_text(row: Result) -> str:
    """Dollars, and how many calls have no known price: they are not in the sum."""
    unknown = row.get("calls_of_unknown_price")
    return usd(row, "cost") + (f" + {unknown} calls of unknown price" if unknown else "")


def usd(row: Result, what: str) -> str:
    return f"{int(str(row[f'{what}_micro_usd'])) / MICRO:.6f}"


@command(usage_text, name="usage")
@tenant_option
@click.option("--all", "of_all", is_flag=True, help="Of all tenants, as the operator; --by tenant is too.")
@click.option("--since", metavar="DAY", default="", help="From this day (UTC) on, as 2026-11-01.")
@click.option("--until", metavar="DAY", default="", help="To this day, included.")
@click.option("--by", type=click.Choice(GROUPS), default="model", show_default=True)
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values.")
def usage_command(tenant: str, of_all: bool, since: str, until: str, by: str, as_csv: bool) -> Result:
    """What a tenant used, what it cost, and what answers saved that were given again."""
    days = {name: day for name, day in (("since", since), ("until", until)) if day}
    client = platform_as_operator() if of_all or by == "tenant" else platform_as(tenant)
    answer = client.call("GET", "/v1/usage", query={"by": by, "format": "csv" if as_csv else "json"} | days)
    return {"by": by, "csv": answer.body.decode()} if as_csv else answer.json()


@click.group(name="audit")
def audit_command() -> None:
    """Verify the audit log."""


def verified_text(result: Result) -> str:
    return f"{'✓' if result['ok'] else '✗'} {result['message']}"


@command(verified_text, name="verify")
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--tenant", default=DEMO, show_default=True, help="Whose log, without FILE; `platform` is the operators'."
)
@click.option(
    "--checkpoints", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Those kept from earlier."
)
@click.option(
    "--public-key", default="", metavar="BASE64", help="The key to trust for FILE; GET /v1/audit/checkpoint tells it."
)
@click.option("--save", type=click.Path(dir_okay=False, path_type=Path), help="Keep the export in this file.")
def verify_command(
    file: Path | None, tenant: str, checkpoints: Path | None, public_key: str, save: Path | None
) -> Result:
    """Verify an audit log offline: FILE, or what the running stack exports.

    Every record's bytes, number and link, the tree's root at every signed checkpoint, and the checkpoints that
    were written outside the database. Without --public-key a FILE is checked against the key that it names itself,
    which shows that it is whole, not who wrote it.
    """
    if file is not None:
        return verdict(file, notes(checkpoints), key_bytes(public_key))
    home, _ = running()
    kept = notes(
        checkpoints or home.path / "checkpoints" / f"{tenant}.jsonl"
    )  # before the export, which is then longer
    with tempfile.TemporaryDirectory() as folder:
        export = save or Path(folder) / "export.jsonl"
        export.write_bytes(auditor(tenant).call("GET", "/v1/audit/export").body)
        return verdict(export, kept, own_public_key(home))


def auditor(tenant: str) -> Client:
    return platform_as_operator() if tenant == PLATFORM else platform_as(tenant)


def notes(path: Path | None) -> list[str]:
    """The signed checkpoints in a file of JSON lines."""
    if path is None or not path.exists():
        return []
    found: list[str] = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            found.append(str(json.loads(line)["note"]))
        except (ValueError, KeyError, TypeError):
            say(f"line {number} of {path} is no checkpoint (cut off while it was written?) and is left out")
    if not found:
        raise Misused(f"{path} is no file of checkpoints", why="no line of it holds one")
    return list(dict.fromkeys(found))  # one that was written again after a failure counts once


def key_bytes(text: str) -> bytes | None:
    if not text:
        return None
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise Misused("--public-key is no Ed25519 key", why=f"it has to be {KEY_BYTES} bytes in base64")
    return key


def own_public_key(home: Home) -> bytes:
    from shared.audit.checkpoint import AuditSigner

    return AuditSigner((home.secrets / "audit.key").read_bytes()).public_key


def verdict(export: Path, trusted: list[str], public_key: bytes | None) -> Result:
    from shared.audit.verify import verify_export

    found = verify_export(export, public_key=public_key, trusted_checkpoints=trusted)
    return {
        "ok": found.ok,
        "records": found.records,
        "checkpoints": found.checkpoints,
        "first_bad": found.first_bad,
        "message": found.message,
    }


audit_command.add_command(verify_command)
