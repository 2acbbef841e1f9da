"""Write, or check, the files that are derived from the code: `./dcoder generate [--check]`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from shared.function import catalog, openapi, reference
from shared.settings import Settings

NOWHERE = Settings(
    postgres_url="-",
    redis_url="-",
    nats_url="-",
    objects_url="-",
    objects_access_key="-",
    objects_secret_key="-",  # noqa: S106  no secret: describing functions opens nothing
    platform_url="-",
    llm_url="-",
    secrets_dir=Path("-"),
)


def pages() -> Mapping[str, str]:
    """Path below the root → content, for every generated file."""
    deployables = catalog.find()
    described = openapi.document(deployables, NOWHERE)
    return {
        "docs/reference/functions.md": reference.functions_page(deployables),
        "docs/reference/errors.md": reference.errors_page(),
        "docs/reference/settings.md": reference.settings_page(),
        "docs/reference/roles.md": reference.roles_page(),
        "docs/reference/openapi.json": json.dumps(described, indent=1, sort_keys=True, ensure_ascii=False) + "\n",
    }


def stale(root: Path, wanted: Mapping[str, str]) -> list[str]:
    """The generated files that are missing or differ."""
    return [name for name, text in wanted.items() if not (root / name).is_file() or (root / name).read_text() != text]


def write(root: Path, wanted: Mapping[str, str]) -> None:
    for name, text in wanted.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def main(arguments: list[str]) -> int:
    wanted = pages()
    if "--check" not in arguments:
        write(catalog.ROOT, wanted)
        return 0
    outdated = stale(catalog.ROOT, wanted)
    for name in outdated:
        sys.stderr.write(f"{name} is not what the code says. Run `./dcoder generate` and commit it.\n")
    return 1 if outdated else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
