"""Fixtures every test can ask for, and the option `--with`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest
from hypothesis import settings as property_settings

from shared.function.process import Process
from shared.function.resources import OPENERS
from shared.ids import TenantId
from shared.postgres import ControlDatabase
from shared.settings import Settings
from shared.tenancy import TenantRegistry
from tests.fixtures.servers import (
    ObjectsServer,
    nats_server,
    postgres_server,
    redis_server,
    scratch_directory,
    seaweed_server,
    write_key_files,
)

property_settings.register_profile("dcoder", deadline=None)  # a busy machine is no defect
property_settings.load_profile("dcoder")
EXTRAS = {
    "minio": "builds a MinIO server from its Go module, which takes minutes and a Go toolchain",
    "image": "builds the functions' image twice and starts it, which takes minutes, the locked wheels and root",
    "terraform": "runs OpenTofu or Terraform, which is built from its Go module when none is on the PATH",
    "cluster": "deploys on the cluster of KUBECONFIG, which needs Knative and the image DCODER_TEST_IMAGE",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--with", action="append", default=[], metavar="NAMES", help=f"also run: {', '.join(EXTRAS)} (comma-separated)"
    )
    parser.addoption(
        "--target", choices=["local", "cluster"], default="local", help="where tests/semantics looks for the platform"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = {name for names in config.getoption("--with") for name in names.split(",")}
    unknown = wanted - set(EXTRAS)
    if unknown:
        raise pytest.UsageError(f"--with knows {', '.join(EXTRAS)}, not {', '.join(sorted(unknown))}")
    for name in set(EXTRAS) - wanted:
        skip = pytest.mark.skip(reason=f"{EXTRAS[name]}: run with --with {name}")
        for item in items:
            if item.get_closest_marker(name):  # keywords hold the names of folders too
                item.add_marker(skip)


@pytest.fixture(scope="session")
def postgres_admin_url() -> Iterator[str]:
    """The superuser's address of the database `postgres`."""
    with postgres_server() as server:
        yield server.url


@pytest.fixture(scope="session")
def second_admin_url() -> Iterator[str]:
    """The superuser's address of another PostgreSQL server than the control database's."""
    with postgres_server() as server:
        yield server.url


@pytest.fixture(scope="session")
async def second_postgres_url(second_admin_url: str) -> str:
    """The platform's address on that server."""
    from shared.host.control import prepare_server

    return await prepare_server(second_admin_url, "dcoder", "dcoder-second")


@pytest.fixture(scope="session")
def nats_url() -> Iterator[str]:
    with nats_server() as server:
        yield server.url


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with redis_server() as server:
        yield server.url


@pytest.fixture(scope="session")
def objects_server() -> Iterator[ObjectsServer]:
    with seaweed_server() as server:
        yield ObjectsServer(server.url, server.access_key, server.secret_key)


@pytest.fixture(scope="session")
async def settings(
    postgres_admin_url: str, nats_url: str, redis_url: str, objects_server: ObjectsServer
) -> AsyncIterator[Settings]:
    """Settings of a platform whose control database is migrated. Nothing listens at its platform and LLM addresses."""
    from shared.host.control import prepare_control_database

    with scratch_directory() as folder:
        settings = Settings(
            postgres_url=await prepare_control_database(postgres_admin_url, "dcoder", "dcoder-test"),
            redis_url=redis_url,
            nats_url=nats_url,
            objects_url=objects_server.url,
            objects_access_key=objects_server.access_key,
            objects_secret_key=objects_server.secret_key,
            objects_keys=objects_server.url,
            platform_url="http://127.0.0.1:9",
            llm_url="http://127.0.0.1:9",
            secrets_dir=write_key_files(folder / "secrets"),
        )
        yield settings


@pytest.fixture(scope="session")
async def process(settings: Settings) -> AsyncIterator[Process]:
    """A process's resources on the session's servers."""
    process = Process(settings, OPENERS)
    yield process
    await process.close()


@pytest.fixture(scope="session")
async def spread(settings: Settings, second_postgres_url: str) -> AsyncIterator[Process]:
    """A process of the same platform that knows a further PostgreSQL server, `second`."""
    process = Process(replace(settings, postgres_servers={"second": second_postgres_url}), OPENERS)
    yield process
    await process.close()


@pytest.fixture(scope="session")
async def control(process: Process) -> ControlDatabase:
    return await process.get(ControlDatabase)


@pytest.fixture(scope="session")
async def registry(process: Process) -> TenantRegistry:
    return await process.get(TenantRegistry)


@pytest.fixture(scope="session")
async def tenant(registry: TenantRegistry) -> TenantId:
    """A ready tenant that tests may share."""
    return (await registry.create("acme")).id


@pytest.fixture(scope="session")
async def other_tenant(registry: TenantRegistry) -> TenantId:
    return (await registry.create("other")).id
