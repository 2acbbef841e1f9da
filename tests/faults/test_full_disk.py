"""A full disk refuses writes with a clear answer, goes on serving reads, and needs no repair once there is room."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared.errors import Unavailable
from shared.host.servers import Postgres
from shared.postgres import ControlDatabase, Databases
from tests.fixtures.ports import free_port
from tests.fixtures.servers import running, scratch_directory

DISK_MIB = 256


@contextmanager
def small_disk() -> Iterator[Path]:
    """A file system of its own size. Needs the right to mount one."""
    with scratch_directory() as folder:
        mount = shutil.which("mount")
        options = ["-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=0755", "tmpfs", str(folder)]
        if os.geteuid() != 0 or mount is None or subprocess.run([mount, *options], check=False).returncode != 0:
            pytest.skip("needs root and the right to mount a small file system")
        try:
            yield folder
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=False)


def fill(disk: Path, *, leave_bytes: int) -> Path:
    """Use up the disk but for a little."""
    usage = shutil.disk_usage(disk)
    filler = disk / "filler"
    with filler.open("wb") as file:
        for _ in range(max(0, usage.free - leave_bytes) // 65536):
            file.write(bytes(65536))
    return filler


@pytest.fixture
async def database_on_small_disk() -> AsyncIterator[tuple[ControlDatabase, Path]]:
    with small_disk() as disk:
        server = Postgres(disk / "postgres", free_port(), secrets.token_hex(8), durable=True)
        with running(server, disk):
            databases = Databases(4)
            yield ControlDatabase(server.url, databases), disk
            await databases.close()


async def test_writes_are_refused_reads_go_on_and_room_is_all_it_takes(
    database_on_small_disk: tuple[ControlDatabase, Path],
) -> None:
    database, disk = database_on_small_disk
    await database.execute("CREATE TABLE kept (n bigint, filler text)")
    await database.execute("INSERT INTO kept SELECT n, repeat('x', 100) FROM generate_series(1, 1000) AS n")
    filler = fill(disk, leave_bytes=1024 * 1024)
    acknowledged = 1000

    async def write_until_full() -> None:
        nonlocal acknowledged
        for _ in range(400):
            async with database.transaction() as transaction:
                await transaction.execute("INSERT INTO kept SELECT n, repeat('x', 900) FROM generate_series(1, 100) n")
            acknowledged += 100

    with pytest.raises(Unavailable, match="no disk left"):
        await write_until_full()
    assert await database.fetchval("SELECT count(*) FROM kept") == acknowledged
    filler.unlink()
    await database.execute("INSERT INTO kept VALUES (1, 'after')")
    assert await database.fetchval("SELECT count(*) FROM kept") == acknowledged + 1
