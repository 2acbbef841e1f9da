"""`tenant export` and `tenant verify`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click

from shared.cli.accounts import key_bytes, own_public_key, verified_text
from shared.cli.client import platform_as_operator, running
from shared.cli.failures import Failed, Misused, typed
from shared.cli.output import Result, command


def exported_text(result: Result) -> str:
    check = typed(f"dcoder tenant verify {result['file']} --public-key {result['public_key']}")
    return f"✓ {result['message']}\n  {result['file']}, {result['bytes']} bytes. To check it anywhere:\n  {check}"


@command(exported_text, name="export")
@click.argument("name")
@click.option("--to", type=click.Path(dir_okay=False, path_type=Path), help="The file to write; default NAME.tar.")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
def export_command(name: str, to: Path | None, force: bool) -> Result:
    """Write all that is a tenant's own into one signed archive, and verify it.

    The file appears whole or not at all, and only its owner may read it. Sealed credentials, the hashes of keys and
    caches are left out; the archive's manifest says so.
    """
    target = to or Path(f"{name}.tar")
    if target.exists() and not force:
        raise Misused(
            f"{target} exists already", why="an export replaces no file by itself", fix=f"{again(name, target)} --force"
        )
    home, _ = running()
    public_key = own_public_key(home)
    with placed(target, replace=force) as file:
        platform_as_operator().download(f"/v1/exports/{name}", file)
        file.flush()
        found = verdict(Path(file.name), public_key)
        if not found["ok"]:
            raise Failed(
                "the export is not whole", why=str(found["message"]), fix=f"dcoder logs, then {again(name, target)}"
            )
    key = own_public_key_text(public_key)
    return {**found, "file": str(target), "bytes": target.stat().st_size, "public_key": key}


def again(name: str, target: Path) -> str:
    return f"dcoder tenant export {name} --to {target}"


def own_public_key_text(key: bytes) -> str:
    import base64

    return base64.b64encode(key).decode()


@contextmanager
def placed(target: Path, *, replace: bool) -> Iterator[BinaryIO]:
    """A file beside `target`, mode 0600, that takes its name once the block ends well, and is gone otherwise.

    Without `replace` a file that came to be meanwhile is kept. Raises `Failed` when the disk does not take it.
    """
    try:
        file = tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", suffix=".part", delete=False)  # noqa: SIM115  it outlives its closing
    except OSError as failure:
        raise not_written(target, failure) from failure
    part = Path(file.name)
    try:
        with file:
            yield file  # type: ignore[misc]  # a wrapper of a binary file
        name_it(part, target, replace=replace)
    except OSError as failure:
        raise not_written(target, failure) from failure
    finally:
        part.unlink(missing_ok=True)


def name_it(part: Path, target: Path, *, replace: bool) -> None:
    with part.open("rb") as file:
        os.fsync(file.fileno())
    if replace:
        part.replace(target)
    else:
        target.hardlink_to(part)  # unlike a rename, never in the place of another file


def not_written(target: Path, failure: OSError) -> Failed:
    return Failed(
        f"{target} could not be written", why=failure.strerror or str(failure), fix="choose another place with --to"
    )


@command(verified_text, name="verify")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--public-key", "--key", default="", metavar="BASE64", help="The platform's public audit key, to trust.")
def verify_command(file: Path, public_key: str) -> Result:
    """Verify an export offline: FILE's every byte, in order, against its signed manifest. Unpacks nothing.

    Without --public-key the archive is checked against the key that it names itself, which shows that it is whole, not
    who wrote it.
    """
    return verdict(file, key_bytes(public_key))


def verdict(file: Path, public_key: bytes | None) -> dict[str, object]:
    from shared.tenancy.export import verify_archive

    found = verify_archive(file, public_key=public_key)
    return {
        "ok": found.ok,
        "message": found.message,
        "first_bad": found.first_bad,
        "tenant": found.tenant,
        "at": found.at,
        **found.counts,
    }
