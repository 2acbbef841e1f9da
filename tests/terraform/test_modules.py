"""`fmt`, `validate` and `test` of every module, and a plan of every example in the README."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

import pytest

from tests.terraform.conftest import MakeRoot
from tests.terraform.program import ENVIRONMENTS, MODULES, TERRAFORM, TEST_S_MAX, Program

pytestmark = [pytest.mark.terraform, pytest.mark.timeout(TEST_S_MAX)]
EXAMPLE = re.compile(r"```hcl\n(.*?)```", re.DOTALL)
PLANS = re.compile(r"^# plans (\d+) resources?$", re.MULTILINE)
EXAMPLES = EXAMPLE.findall((TERRAFORM / "README.md").read_text())
VARIABLES = {
    "TF_VAR_node_image_sha256": "0" * 64,
    "TF_VAR_stores": json.dumps({
        "postgres_url": "postgresql://me:hunter2@db", "redis_url": "redis://:hunter2@cache",
        "objects_access_key": "key", "objects_secret_key": "hunter2",
    }),
}  # fmt: skip


def test_the_files_are_formatted(program: Program) -> None:
    assert program.ok(TERRAFORM, "fmt", "-check", "-recursive") == ""


@pytest.mark.parametrize("folder", [*MODULES, *ENVIRONMENTS], ids=lambda path: path.name)
def test_a_module_is_valid(program: Program, folder: Path) -> None:
    program.ok(folder, "init", "-backend=false")
    answer = json.loads(program.ok(folder, "validate", "-json"))
    assert answer["valid"]
    assert answer["diagnostics"] == []


@pytest.mark.parametrize("folder", MODULES, ids=lambda path: path.name)
def test_a_modules_own_tests_pass(program: Program, folder: Path) -> None:
    program.ok(folder, "init", "-backend=false")
    assert re.search(r"Success! [1-9]\d* passed, 0 failed", program.ok(folder, "test"))


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_of_the_readme_plans_what_it_says(program: Program, make_root: MakeRoot, number: int) -> None:
    said = PLANS.search(EXAMPLES[number])
    assert said is not None, "the example must end in `# plans N resources`"
    root = make_root(EXAMPLES[number])
    program.ok(root, "plan", "-out=planned", environment=VARIABLES)
    shown = program.ok(root, "show", "-json", "planned")
    created = [one for one in json.loads(shown)["resource_changes"] if one["change"]["actions"] == ["create"]]
    assert len(created) == int(said[1])
    assert "hunter2" not in shown
    with zipfile.ZipFile(root / "planned") as planned:
        assert not any(b"hunter2" in planned.read(name) for name in planned.namelist())


def test_the_readme_has_an_example_of_every_module() -> None:
    assert set(re.findall(r'"\./terraform/modules/(\w+)"', "".join(EXAMPLES))) == {path.name for path in MODULES}


def test_the_local_environment_is_planned_from_no_values_at_all(program: Program) -> None:
    (folder,) = (path for path in ENVIRONMENTS if path.name == "local")
    program.ok(folder, "init", "-backend=false")
    assert "Plan: 3 to add, 0 to change, 0 to destroy" in program.ok(folder, "plan", "-lock=false")
