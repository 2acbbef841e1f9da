"""Prepares a process of one tenant: `python -m shared.host.granting TENANT FUNCTION`, with the platform's settings.

It writes the process's key files, and prints its environment to the host that asked, in which the address of the
tenant's database is.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from shared.errors import Problem
from shared.function import catalog
from shared.function.dedication import Origins, credentials_of, key_names, keys_of, object_key_of, variables
from shared.function.injection import dedicated_grants_of
from shared.host.files import private_directory, write_private_bytes
from shared.host.home import find_home
from shared.ids import TenantId
from shared.settings import Settings


async def granted(settings: Settings, tenant: TenantId, function: str) -> dict[str, str]:
    """The environment of the process; its key files are written. Raises `NotFound`, `Invalid`, `Fault`."""
    (deployable,) = catalog.select([function])
    grants = dedicated_grants_of(deployable.function)
    held = await credentials_of(settings, tenant)
    return {
        **variables(tenant, function, grants, Origins(settings.platform_url, settings.llm_url, settings.objects_url)),
        **object_key_of(tenant, held, grants),
        "DCODER_POSTGRES_URL": held.database_url,
        "DCODER_SECRETS_DIR": str(write_keys(find_home().own_secrets(tenant, function), keys_of(held), grants)),
        "DCODER_PRIVATE_PROVIDER_URLS": str(settings.private_provider_urls).lower(),
        # What the host's own environment may hold reaches further than this process may.
        "DCODER_POSTGRES_SERVERS": "",
        "DCODER_BROKER_URL": "",
        "DCODER_OBJECTS_KEYS": "",
    }


def write_keys(folder: Path, keys: dict[str, bytes], grants: frozenset[str]) -> Path:
    private_directory(folder)
    for name in key_names(grants):
        write_private_bytes(folder / name, keys[name])
    return folder


def main(arguments: list[str]) -> int:
    tenant, function = arguments
    try:
        environment = asyncio.run(granted(Settings.from_environment(), TenantId(tenant), function))
    except Problem as problem:
        sys.stdout.write(json.dumps({"event": "result", "message": problem.detail}) + "\n")
        return 1
    sys.stdout.write(json.dumps({"event": "result", "environment": environment}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
