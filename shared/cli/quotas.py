"""`quota add|ls|set|rm|reconcile`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from shared.cli.client import DEMO, platform_as_operator
from shared.cli.failures import Misused
from shared.cli.limits import AT_LIMIT, MICRO, limit_options, limits_in, micro_usd
from shared.cli.output import Result, command, rows_of, table

SCOPES = ("key", "member", "group", "tag", "model")
tenant_option = click.option("--tenant", default=DEMO, show_default=True, help="Whose quotas.")


@click.group(name="quota")
def quota_command() -> None:
    """Set, list, change, remove or reconcile quotas: budgets, rates and calls at once."""


def scope_of(names: Mapping[str, str]) -> dict[str, object]:
    """Raises `Misused`."""
    named = [(scope, name) for scope, name in names.items() if name]
    if len(named) > 1:
        raise Misused("a quota is of one key, member, group, tag or model", why=f"{len(named)} are named")
    return {"scope": named[0][0], "name": named[0][1]} if named else {"scope": "tenant"}


def added_text(result: Result) -> str:
    return "\n".join(f"quota {row['id']}: {amount_text(row)} {row['window']}" for row in rows_of(result, "quotas"))


@command(added_text, name="add")
@tenant_option
@click.option("--key", default="", metavar="ID", help="For this key and those rotated from it.")
@click.option("--member", default="", help="For the keys of this member together.")
@click.option("--group", default="", help="For the keys of this group together.")
@click.option("--tag", default="", help="For the keys with this tag.")
@click.option("--model", default="", help="For this model, by its provider's name.")
@limit_options
def add_command(tenant: str, **given: Any) -> Result:  # Any: the options of scopes and limits
    """Set quotas for a tenant, or for a key, member, group, tag or model of it."""
    limits = limits_in(given)
    if not limits:
        raise Misused("say what is limited", why="none of --budget-usd, --tokens, --rpm, --tpm and --parallel is given")
    scope, operator = scope_of({scope: given[scope] for scope in SCOPES}), platform_as_operator()
    made = [operator.call("POST", "/v1/quotas", scope | limit, query={"tenant": tenant}).json() for limit in limits]
    return {"tenant": tenant, "quotas": made}


def amount_text(row: Result, member: str = "amount") -> str:
    """Dollars for money, else the number."""
    amount = int(str(row[member]))
    return f"{amount / MICRO:.6f} USD" if row["metric"] == "micro_usd" else f"{amount} {row['metric']}"


def list_text(result: Result) -> str:
    rows = [
        [row["id"], f"{row['scope']} {row['name']}".strip(), row["window"], amount_text(row), amount_text(row, "used"),
         row["reserved"], "hard" if row["hard"] else "soft", row.get("resets_at") or ""]
        for row in rows_of(result, "quotas")
    ]  # fmt: skip
    return table(rows, head=["id", "of", "window", "limit", "used", "reserved", "kind", "resets"])


@command(list_text, name="ls")
@tenant_option
def list_command(tenant: str) -> Result:
    """List a tenant's quotas and how they stand."""
    return platform_as_operator().call("GET", "/v1/quotas", query={"tenant": tenant}).json()


@command(lambda result: f"quota {result['id']} is {amount_text(result)}", name="set")
@click.argument("quota_id", type=int)
@tenant_option
@click.option("--budget-usd", metavar="USD", help="The new limit in dollars.")
@click.option("--amount", type=click.IntRange(0), help="The new limit in tokens, calls or millionths of a dollar.")
@click.option("--at-limit", type=click.Choice(AT_LIMIT), help="What becomes of a stream that reaches it.")
def set_command(quota_id: int, tenant: str, budget_usd: str | None, amount: int | None, at_limit: str | None) -> Result:
    """Change a quota's limit, or what becomes of a stream that reaches it. What was used so far stays counted."""
    if (budget_usd is not None) and (amount is not None):
        raise Misused("say the new limit once", why="--budget-usd and --amount are both given")
    if budget_usd is None and amount is None and at_limit is None:
        raise Misused("say what changes", why="none of --budget-usd, --amount and --at-limit is given")
    body = {"amount": amount if budget_usd is None else micro_usd(budget_usd), "at_limit": at_limit}
    return platform_as_operator().call("PATCH", f"/v1/quotas/{quota_id}", body, query={"tenant": tenant}).json()


@command(lambda result: f"quota {result['id']} is removed", name="rm")
@click.argument("quota_id", type=int)
@tenant_option
def remove_command(quota_id: int, tenant: str) -> Result:
    """Remove a quota."""
    platform_as_operator().call("DELETE", f"/v1/quotas/{quota_id}", query={"tenant": tenant})
    return {"id": quota_id, "tenant": tenant, "removed": True}


def reconciled_text(result: Result) -> str:
    rows = rows_of(result, "differences")
    lines = [f"{result['compared']} quotas compared, {len(rows)} differences mended"]
    told = [
        [row["quota"], f"{row['scope']} {row['name']}".strip(), row["metric"], row["window"], row["place"],
         row["found"], row["truth"]]
        for row in rows
    ]  # fmt: skip
    return "\n".join(lines + ([table(told, head=["id", "of", "metric", "window", "in", "was", "is"])] if told else []))


@command(reconciled_text, name="reconcile")
@tenant_option
def reconcile_command(tenant: str) -> Result:
    """Compare a tenant's ledger, counters and mirror now, as every night, and mend what differs."""
    return platform_as_operator().call("POST", "/v1/quotas/reconcile", query={"tenant": tenant}).json()


for one in (add_command, list_command, set_command, remove_command, reconcile_command):
    quota_command.add_command(one)
