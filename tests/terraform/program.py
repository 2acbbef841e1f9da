"""OpenTofu or Terraform: from the PATH, or OpenTofu built from its Go module, and one run of it without a network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TERRAFORM = ROOT / "terraform"
MODULES = sorted(path for path in TERRAFORM.glob("modules/*") if path.is_dir())
ENVIRONMENTS = sorted(path for path in TERRAFORM.glob("environments/*") if path.is_dir())
MODULE, VERSION = "github.com/opentofu/opentofu", "v1.12.6"
BUILD_S_MAX = 3600
RUN_S_MAX = 150
TEST_S_MAX = BUILD_S_MAX + 300
"""Of any test, since the first one waits for the build."""


def binary() -> str:
    """The program, built into the user's cache at first need when there is none (ten to twenty minutes)."""
    found = shutil.which("tofu") or shutil.which("terraform")
    return found or str(built())


def built() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dcoder" / "opentofu" / VERSION
    program = cache / "tofu"
    if not program.exists():
        if shutil.which("go") is None:
            raise RuntimeError(
                f"no tofu or terraform is on the PATH, and no Go toolchain to build one: install OpenTofu {VERSION}"
            )
        told = subprocess.run(
            ["go", "mod", "download", "-json", f"{MODULE}@{VERSION}"], capture_output=True, check=True, timeout=300
        )
        # `go install` refuses a module that replaces another, as this one does: it is built in its own folder.
        subprocess.run(
            ["go", "build", "-trimpath", "-o", str(program), "./cmd/tofu"],
            cwd=json.loads(told.stdout)["Dir"],
            env={**os.environ, "CGO_ENABLED": "0"},
            check=True,
            timeout=BUILD_S_MAX,
        )
    return program


@dataclass(frozen=True)
class Program:
    """Runs in a folder, with its working files in `scratch` and not in the tree."""

    path: str
    scratch: Path

    def surroundings(self, folder: Path) -> dict[str, str]:
        settings = self.scratch / "settings.tfrc"
        settings.touch()
        return {
            **os.environ,
            "TF_CLI_CONFIG_FILE": str(settings),
            "TF_DATA_DIR": str(self.scratch / "data" / folder.relative_to("/")),
            "TF_IN_AUTOMATION": "1",
            "TF_INPUT": "0",
            "TF_CLI_ARGS": "-no-color",
            "CHECKPOINT_DISABLE": "1",
        }

    def run(
        self, folder: Path, *arguments: str, environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.path, *arguments],
            cwd=folder,
            env={**self.surroundings(folder), **(environment or {})},
            capture_output=True,
            text=True,
            timeout=RUN_S_MAX,
            check=False,
        )

    def ok(self, folder: Path, *arguments: str, environment: dict[str, str] | None = None) -> str:
        """What a run that must succeed printed."""
        done = self.run(folder, *arguments, environment=environment)
        assert done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def refused(self, folder: Path, *arguments: str, environment: dict[str, str] | None = None) -> str:
        """What a run that must fail printed. It breaks lines at any place, so they are joined."""
        done = self.run(folder, *arguments, environment=environment)
        assert done.returncode == 1, f"{arguments}: {done.stdout}\n{done.stderr}"
        return " ".join(f"{done.stdout}\n{done.stderr}".split())
