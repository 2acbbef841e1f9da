"""A small function of a tenant, as its author writes it."""

from __future__ import annotations

from pathlib import Path

from shared.bundles.manifest import Manifest
from shared.bundles.manifest import Path as RoutePath

FUNCTION = '''"""Turns an amount into another currency."""

from __future__ import annotations

from pydantic import BaseModel

from {name}.table import RATES
from shared.function import Function
from shared.identity import Caller

rates = Function(timeout_s=10)


class Amount(BaseModel):
    """An amount, and for whom."""

    amount: float
    tenant: str


@rates.get("/v1/own/{slug}/{{currency}}", permission="documents:read")
async def convert(currency: str, caller: Caller, amount: float = 1.0) -> Amount:
    """Convert an amount of euros."""
    return Amount(amount=amount * RATES[currency], tenant=caller.tenant)
'''
TABLE = "RATES = {'usd': 1.25, 'dkk': 7.5}\n"


def files(name: str = "rates", **more: str) -> dict[str, bytes]:
    """The files of the function under that name; `more` replaces files, named without `.py`."""
    texts = {"function": FUNCTION.format(name=name, slug=name.replace("_", "-")), "table": TABLE, **more}
    return {f"{path}.py": text.encode() for path, text in texts.items()}


def manifest(name: str = "rates", **more: object) -> Manifest:
    """What the function declares, written down by hand."""
    route = RoutePath(
        method="GET",
        path=f"/v1/own/{name.replace('_', '-')}/{{currency}}",
        permission="documents:read",
        body_bytes_max=None,
    )
    said: dict[str, object] = {
        "name": name,
        "summary": "Turns an amount into another currency.",
        "timeout_s": 10,
        "instances_max": 20,
        "concurrency": 40,
        "body_bytes_max": 1024 * 1024,
        "routes": (route,),
        "asks": ("Caller",),
    }
    return Manifest(**{**said, **more})  # type: ignore[arg-type]  # that wrong ones are refused is what is tested


def written(folder: Path, name: str = "rates", **more: str) -> Path:
    """The function as a folder."""
    for path, content in files(name, **more).items():
        (folder / name).mkdir(exist_ok=True)
        (folder / name / path).write_bytes(content)
    return folder / name
