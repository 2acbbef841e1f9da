"""`usage` and `audit verify`."""

from __future__ import annotations

import click

from shared.cli.client import DEMO, Client, platform_as, platform_as_operator
from shared.cli.output import Result, command, rows_of, table

PLATFORM = "platform"
tenant_option = click.option("--tenant", default=DEMO, show_default=True, help="Whose.")


def usage_text(result: Result) -> str:
    rows = [
        [row.get(name, "") for name in ("model", "calls", "input_tokens", "output_tokens", "cost_usd")]
        for row in rows_of(result, "usage")
    ]
    return table(rows, head=["model", "calls", "tokens in", "tokens out", "cost USD"])


@command(usage_text, name="usage")
@tenant_option
def usage_command(tenant: str) -> Result:
    """What a tenant used, by model, and what it cost."""
    return platform_as(tenant).call("GET", "/v1/usage").json()


@click.group(name="audit")
def audit_command() -> None:
    """Verify the audit log."""


def verified_text(result: Result) -> str:
    if result["ok"]:
        return f"{result['records']} records verified: none altered, removed, inserted or moved"
    return f"BROKEN at record {result.get('first_bad')}: {result.get('reason')}"


def auditor(tenant: str) -> Client:
    return platform_as_operator() if tenant == PLATFORM else platform_as(tenant)
