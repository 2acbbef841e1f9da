"""`price set|ls|rm`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import click

from shared.cli.client import DEMO, platform_as_operator
from shared.cli.failures import Misused
from shared.cli.output import Result, command, rows_of, table

KINDS = (
    "input", "output", "cached", "written_5m", "written_1h", "audio_input", "image_input", "reasoning", "audio_output",
    "image_output",
)  # fmt: skip
RATE = re.compile(
    rf"(?:(?P<tier>standard|batch|flex|priority)(?:@(?P<above>\d+))?\.)?(?P<kind>{'|'.join(KINDS)})=(?P<usd>\d+(\.\d+)?)"
)
tenant_option = click.option("--tenant", default=DEMO, show_default=True, help="Whose prices.")
since_option = click.option(
    "--since", metavar="DAY", default="", help="In force from this day (UTC) on. [default: today]"
)
Cards = list[dict[str, object]]


@click.group(name="price")
def price_command() -> None:
    """Set, list or remove a tenant's own prices. Every other model has the published one."""


def cards_in(rates: Iterable[str]) -> Cards:
    """One card for each service tier and input length that the rates name. Raises `Misused`."""
    cards: dict[tuple[str, int], dict[str, object]] = {}
    for rate in rates:
        match = RATE.fullmatch(rate)
        if match is None:
            raise Misused(
                f"{rate!r} is no rate", why=f"expected [TIER[@ABOVE].]KIND=USD, where KIND is one of {', '.join(KINDS)}"
            )
        place = match["tier"] or "standard", int(match["above"] or 0)
        cards.setdefault(place, {"tier": place[0], "above": place[1]})[match["kind"]] = match["usd"]
    cards.setdefault(("standard", 0), {})
    for (tier, above), card in cards.items():
        if missing := [kind for kind in ("input", "output") if kind not in card]:
            where = f"{tier}@{above}" if above else tier
            raise Misused(f"no price for {missing[0]} of {where}", why="input and output have no default")
    return list(cards.values())


def set_text(result: Result) -> str:
    return f"{result['model']} costs from {result['since']} on:\n{cards_table([result])}"


@command(set_text, name="set")
@click.argument("model")
@tenant_option
@since_option
@click.option("--input", "input_usd", metavar="USD", help="Dollars per million input tokens.")
@click.option("--output", "output_usd", metavar="USD", help="Dollars per million output tokens.")
@click.option("--cached", "cached_usd", metavar="USD", help="Of input that the provider read from its cache.")
@click.option(
    "--rate",
    "rates",
    multiple=True,
    metavar="[TIER[@ABOVE].]KIND=USD",
    help="Another kind of token, tier (batch, flex, priority) or input length. May be repeated.",
)
def set_command(model: str, tenant: str, since: str, rates: tuple[str, ...], **usd: str | None) -> Result:
    """Set what MODEL costs, in dollars per million tokens. `<provider>/<model>` is a model at one provider only."""
    given = [f"{name.removesuffix('_usd')}={amount}" for name, amount in usd.items() if amount is not None]
    cards, query = cards_in([*given, *rates]), {"tenant": tenant, **({"since": since} if since else {})}
    return platform_as_operator().call("PUT", f"/v1/prices/{model}", {"cards": cards}, query=query).json()


def cards_table(prices: Iterable[Mapping[str, object]]) -> str:
    rows = [
        [
            price["model"],
            price["since"],
            card_name(card),
            rates_text(card),
            "operator" if price["by_operator"] else "tenant",
        ]
        for price in prices
        for card in rows_of(price, "cards")
    ]
    return table(rows, head=["model", "from", "tier", "USD per million tokens", "set by"])


def card_name(card: Mapping[str, object]) -> str:
    return f"{card['tier']}, above {card['above']}" if card["above"] else str(card["tier"])


def rates_text(card: Mapping[str, object]) -> str:
    return ", ".join(f"{kind} {card[kind]}" for kind in KINDS if card.get(kind) is not None)


@command(lambda result: cards_table(rows_of(result, "prices")), name="ls")
@tenant_option
def list_command(tenant: str) -> Result:
    """List a tenant's own prices."""
    return platform_as_operator().call("GET", "/v1/prices", query={"tenant": tenant}).json()


@command(lambda result: f"the price of {result['model']} from {result['since']} on is removed", name="rm")
@click.argument("model")
@tenant_option
@click.option("--since", metavar="DAY", required=True, help="The day from which it is in force, as `price ls` says.")
def remove_command(model: str, tenant: str, since: str) -> Result:
    """Remove a price. The one before it, or the published one, holds again."""
    platform_as_operator().call("DELETE", f"/v1/prices/{model}", query={"tenant": tenant, "since": since})
    return {"model": model, "since": since, "tenant": tenant, "removed": True}


for one in (set_command, list_command, remove_command):
    price_command.add_command(one)
