"""Two filled tenants, and the export of one of them, for all tests of a file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.audit.checkpoint import AuditSigner
from shared.function.process import Process
from shared.secrets import read_key
from shared.settings import Settings
from shared.tenancy import TenantRegistry
from tests.fixtures.runtime import Runtime, serving_function
from tests.functions.governance.exports.filled import Filled, contents, emptied, filled


@pytest.fixture(scope="module")
async def runtime(settings: Settings) -> AsyncIterator[Runtime]:
    async with serving_function("governance-exports", settings) as runtime:
        yield runtime


@pytest.fixture(scope="module")
def signer(settings: Settings) -> AuditSigner:
    return AuditSigner(read_key(settings, "audit"))


@pytest.fixture(scope="module")
async def acme(process: Process, registry: TenantRegistry) -> AsyncIterator[Filled]:
    made = await filled(process)
    yield made
    await emptied(made, registry)


@pytest.fixture(scope="module")
async def rival(process: Process, registry: TenantRegistry) -> AsyncIterator[Filled]:
    made = await filled(process)
    yield made
    await emptied(made, registry)


@pytest.fixture(scope="module")
async def archive(runtime: Runtime, acme: Filled, rival: Filled, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of `acme`, asked for by its own administrator."""
    answer = await runtime.call("GET", f"/v1/exports/{acme.tenant}", tenant=acme.tenant, role="admin")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-tar"
    path = tmp_path_factory.mktemp("export") / "acme.tar"
    path.write_bytes(answer.content)
    return path


@pytest.fixture(scope="module")
def entries(archive: Path) -> dict[str, bytes]:
    return contents(archive)
