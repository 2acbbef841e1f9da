"""A sealer killed after any of its steps: the next run seals everything exactly once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from functions.governance.audit.anchors import append_line
from shared.audit.sealer import seal
from shared.ids import TenantId
from tests.shared.audit.stores import ACME, Stores, stores

ROOT = Path(__file__).parents[3]
STEPS_MAX = 40
OWN, FOREIGN, LATER = 3, 2, 1


def run_and_kill(there: Stores, outside: Path, steps: int) -> int:
    arguments = (there.control.dsn, there.own_dsn, there.settings.secrets_dir / "audit.key", outside, steps)
    command = [sys.executable, "-P", "-m", "tests.shared.audit.killed_sealer", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, -9), done.stderr
    return done.returncode


def notes_in(outside: Path) -> list[str]:
    return [json.loads(line)["note"] for line in outside.read_text().splitlines()] if outside.exists() else []


async def test_killed_after_any_step_it_seals_everything_exactly_once(postgres_admin_url: str, tmp_path: Path) -> None:
    outside = tmp_path / "acme.jsonl"

    async def anchor(tenant: TenantId, size: int, note: str) -> None:
        append_line(outside, size, note)

    async with stores(postgres_admin_url, tmp_path) as there:
        survived = 0
        for steps in range(STEPS_MAX):
            await there.write(OWN)
            await there.write(FOREIGN, at=there.control)
            before = {*await there.waiting(), *await there.sealed()}
            ended = run_and_kill(there, outside, steps)
            assert {*await there.waiting(), *await there.sealed()} == before, f"lost after {steps} steps"
            await there.write(LATER)  # so that the next run has another batch than the killed one
            await seal(ACME, there.own, there.control, signer=there.signer, anchor=anchor)
            sealed = await there.sealed()
            assert len(sealed) == len(set(sealed)) == (steps + 1) * (OWN + FOREIGN + LATER)
            assert await there.waiting() == []
            verdict = await there.verdict(trusted=notes_in(outside))
            assert verdict.ok, f"after {steps} steps: {verdict.message}"
            survived = steps
            if ended == 0:
                break
        rows = await there.own.fetch("SELECT note FROM audit_checkpoints")
        assert 12 <= survived < STEPS_MAX - 1, "every step was killed after, and one run came through"
        assert {row["note"] for row in rows} >= set(notes_in(outside)), "no checkpoint outside that is not inside"
