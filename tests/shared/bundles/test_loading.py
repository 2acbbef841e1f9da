"""Importing a bundle: only what was signed, under a name that nothing else has."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.bundles import loading
from shared.bundles.loading import Finder, checked, declared, imported
from shared.bundles.manifest import Manifest, parsed
from shared.bundles.signing import Bundle
from shared.errors import Invalid
from shared.function.declaration import Route
from shared.identity import Caller
from shared.ids import TenantId
from tests.shared.bundles.rates import files, manifest, written

ACME = TenantId("acme")


@pytest.fixture(autouse=True)
def _unloaded() -> Iterator[None]:
    """Each test imports the package anew."""
    yield
    for name in [one for one in sys.modules if one.partition(".")[0] in ("rates", "beside")]:
        del sys.modules[name]
    sys.meta_path[:] = [one for one in sys.meta_path if not isinstance(one, Finder)]


def changed(old: str, new: str) -> dict[str, bytes]:
    text = files()["function.py"].decode()
    assert old in text
    return {**files(), "function.py": text.replace(old, new).encode()}


def test_a_bundle_is_imported_from_memory_with_its_siblings() -> None:
    deployable = imported("rates", files())
    ((operation, route),) = deployable.routes()
    assert isinstance(route, Route)

    async def called() -> Any:  # Any: a model of the bundle
        return await operation.handler(currency="usd", caller=Caller(ACME, "ada", "member", "key"), amount=4.0)

    answer = asyncio.run(called())
    assert (deployable.name, deployable.summary) == ("own-rates", "Turns an amount into another currency.")
    assert (answer.amount, answer.tenant) == (5.0, ACME)


def test_what_is_declared_is_what_was_written() -> None:
    assert declared("rates", imported("rates", files())) == manifest()


def test_a_failing_module_is_shown_with_its_line() -> None:
    import traceback

    with pytest.raises(Invalid, match="ZeroDivisionError: division by zero") as raised:
        imported("rates", {**files(), "table.py": b"RATES = 1 / 0\n"})
    shown = "".join(traceback.format_exception(raised.value))
    assert 'File "/bundle/rates/table.py", line 1' in shown
    assert "RATES = 1 / 0" in shown


def test_a_data_file_is_read_by_name() -> None:
    import pkgutil

    imported("rates", {**files(), "table.csv": b"usd,1.25\n"})
    assert pkgutil.get_data("rates", "table.csv") == b"usd,1.25\n"


@pytest.mark.parametrize("name", ["json", "shared", "functions", "tests", "pydantic", "uvicorn"])
def test_a_bundle_stands_in_for_no_other_module(name: str) -> None:
    with pytest.raises(Invalid, match="choose another"):
        imported(name, files(name))


def test_a_folder_beside_the_platforms_own_takes_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, "beside", table="RATES = {}\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Invalid, match="choose another"):
        imported("beside", files("beside"))
    monkeypatch.setattr(loading, "ROOT", tmp_path)
    deployable = imported("beside", files("beside"))
    assert deployable.name == "own-beside"
    assert sys.modules["beside.table"].RATES, "the bundle's own file, not the folder's"


def test_a_bundle_that_declares_more_than_was_signed_is_not_run() -> None:
    more = changed("documents:read", "documents:write")
    with pytest.raises(Invalid, match="something else than what was signed"):
        checked(Bundle(ACME, 1, manifest(), more))


@pytest.mark.parametrize(
    "kind",
    ["ControlDatabase", "ControlTransaction", "TenantRegistry", "Settings", "Process", "Meter", "TenantSecrets"],
)
def test_asking_for_what_is_the_platforms_is_refused(kind: str) -> None:
    where = {
        "Settings": "shared.settings",
        "Process": "shared.function.process",
        "TenantRegistry": "shared.tenancy",
        "Meter": "shared.quotas",
        "TenantSecrets": "shared.secrets",
    }.get(kind, "shared.postgres")
    asked = changed("caller: Caller,", f"caller: Caller, more: {kind},")
    asked["function.py"] = asked["function.py"].replace(
        b"from shared.identity", f"from {where} import {kind}\nfrom shared.identity".encode()
    )
    with pytest.raises(Invalid, match=f"asks for {kind}; a tenant's own function may ask for Cache, Caller"):
        declared("rates", imported("rates", asked))


@pytest.mark.parametrize(
    ("trigger", "why"),
    [
        ('on(DomainEvent("x"))', "started by calls only"),
        ('every("* * * * *")', "started by calls only"),
        ('get("/v1/documents", permission="documents:read")', "not below /v1/own/rates"),
        ('get("/v1/own/other", permission="documents:read")', "not below /v1/own/rates"),
        ('get("/v1/own/ratesx", permission="documents:read")', "not below /v1/own/rates"),
        ('get("/v1/own/rates/../x", permission="documents:read")', "neither a word nor a parameter"),
        ('get("/v1/own/rates/{a:path}/x", permission="documents:read")', "neither a word nor a parameter"),
        ('get("/v1/own/rates/{code}", permission="documents:read")', "declared twice"),
        ('get("/v1/own/rates", permission="tenants:write")', "no role of a tenant has"),
    ],
)
def test_a_declaration_that_reaches_further_is_refused(trigger: str, why: str) -> None:
    more = f'\n\n@rates.{trigger}\nasync def more() -> None:\n    """More."""\n'
    text = files()["function.py"].decode().replace("import Function\n", "import DomainEvent, Function\n") + more
    with pytest.raises(Invalid, match=why):
        declared("rates", imported("rates", {**files(), "function.py": text.encode()}))


def test_staying_awake_is_refused() -> None:
    awake = changed("timeout_s=10", 'timeout_s=10, scale=Scale(min=1, reason="fast")')
    awake["function.py"] = awake["function.py"].replace(b"import Function", b"import Function, Scale")
    with pytest.raises(Invalid, match=r"Scale\.min is 0"):
        declared("rates", imported("rates", awake))


@pytest.mark.parametrize("name", ["Rates", "1rates", "rates-x", "ra tes", "a__b", "a" * 31, "", "../x"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    document = manifest().model_dump(mode="json") | {"name": name}
    with pytest.raises(Invalid):
        parsed(Manifest.model_construct(**document).model_dump_json(warnings=False))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": 1}', "null"])
def test_what_is_no_manifest_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parsed(text)


def test_a_manifest_survives_the_way_there_and_back() -> None:
    assert parsed(manifest().model_dump_json()) == manifest()
