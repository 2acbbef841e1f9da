"""What holds of every module, read from its text: this needs no program."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from functions.governance.tenants.function import tenants
from knative.preflight import KUBERNETES_MIN
from shared.cli.cluster import WAIT_S
from shared.cli.stores import STORE_SETTINGS
from shared.ids import TENANT_NAME
from shared.settings import SERVER_NAME
from tests.terraform.program import ENVIRONMENTS, MODULES, TERRAFORM

BLOCK = re.compile(r'^(variable|output) "(\w+)" \{\n(.*?)^\}', re.MULTILINE | re.DOTALL)
FILES = {"main.tf", "outputs.tf", "variables.tf", "versions.tf"}
UNITS = ("_s", "_revision")
"""Endings that a number's name may have."""


def blocks(folder: Path, kind: str) -> dict[str, str]:
    """The bodies of a module's variables or outputs, by name."""
    text = "".join(path.read_text() for path in folder.glob("*.tf"))
    return {name: body for found, name, body in BLOCK.findall(text) if found == kind}


def faults(kind: str, name: str, body: str, *, validated: bool) -> list[str]:
    """What a block lacks."""
    wanted = {"description": r'^  description = ".{10,}"$'}
    if kind == "variable":
        wanted["type"] = r"^  type\s+= "
        checked = validated and not re.search(r"^  type\s+= bool$", body, re.MULTILINE)
        wanted |= {"validation": r"^  validation \{$"} if checked else {}
        numbers = re.findall(r"^ *(\w+) += (?:optional\()?number", body, re.MULTILINE)
        numbers = [name if one == "type" else one for one in numbers]
        wanted |= {f"unit of {one}": r"(?!)" for one in numbers if not one.endswith(UNITS)}
    return [f"{name}: no {what}" for what, pattern in wanted.items() if not re.search(pattern, body, re.MULTILINE)]


@pytest.mark.parametrize("folder", [*MODULES, *ENVIRONMENTS], ids=lambda path: path.name)
def test_every_variable_and_output_is_described_typed_and_checked(folder: Path) -> None:
    found = [
        fault
        for kind in ("variable", "output")
        for name, body in blocks(folder, kind).items()
        for fault in faults(kind, name, body, validated=folder in MODULES)
    ]
    assert blocks(folder, "variable")
    assert blocks(folder, "output")
    assert found == []


def test_a_block_that_lacks_something_is_found() -> None:
    body = '  description = "Seconds to wait."\n  type        = number\n'
    assert faults("variable", "wait", body, validated=True) == ["wait: no validation", "wait: no unit of wait"]
    assert faults("variable", "wait_s", body, validated=False) == []
    assert faults("output", "name", "  value = 1\n", validated=True) == ["name: no description"]


@pytest.mark.parametrize("folder", MODULES, ids=lambda path: path.name)
def test_a_module_has_the_usual_files_and_no_provider(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} >= FILES
    assert list(folder.glob("tests/*.tftest.hcl"))
    text = "".join(path.read_text() for path in folder.glob("*.tf"))
    assert set(re.findall(r'^resource "(\w+)"', text, re.MULTILINE)) == {"terraform_data"}
    assert not re.search(r"^(provider|data) |required_providers", text, re.MULTILINE)
    assert 'required_version = ">= 1.11.0, < 2.0.0"' in text


@pytest.mark.parametrize("folder", MODULES, ids=lambda path: path.name)
def test_every_check_of_a_variable_has_a_test_that_it_refuses(folder: Path) -> None:
    checked = {name for name, body in blocks(folder, "variable").items() if "validation {" in body}
    tests = "".join(path.read_text() for path in folder.glob("tests/*.tftest.hcl"))
    assert checked == set(re.findall(r"expect_failures = \[var\.(\w+)\]", tests))


def condition(module: str, variable: str) -> str:
    return blocks(TERRAFORM / "modules" / module, "variable")[variable]


def test_names_are_checked_as_the_platform_checks_them() -> None:
    assert f'regex("^{TENANT_NAME.pattern}$", var.name)' in condition("tenant", "name")
    assert f'regex("^({SERVER_NAME.pattern})?$", var.postgres_server)' in condition("tenant", "postgres_server")


def test_times_are_those_of_the_platform() -> None:
    assert f"timeout_s <= {tenants.timeout_s} " in condition("tenant", "timeout_s")
    assert re.search(rf"default += {WAIT_S}$", condition("platform", "ready_timeout_s"), re.MULTILINE)


def test_kubernetes_is_as_old_as_the_preflight_allows() -> None:
    major, minor = KUBERNETES_MIN
    pattern = re.search(r'can\(regex\("(\^\[a-z0-9./:_-\].*?)",', condition("cluster", "kind"))
    assert pattern is not None
    image = re.compile(pattern[1].replace("\\\\", "\\"))
    digest = "@sha256:" + "0" * 64
    assert image.match(f"kindest/node:v{major}.{minor}.0{digest}")
    assert not image.match(f"kindest/node:v{major}.{minor - 1}.9{digest}")


def test_the_platform_gets_every_address_that_dcoder_reads() -> None:
    text = (TERRAFORM / "modules" / "platform" / "main.tf").read_text()
    assert set(re.findall(r"^ +(DCODER_\w+) +=", text, re.MULTILINE)) == set(STORE_SETTINGS)


def test_the_files_of_knative_are_the_same_in_script_and_variables() -> None:
    script = (TERRAFORM / "modules" / "knative" / "knative.sh").read_text()
    files = re.search(r'^FILES="(.*?)"$', script, re.MULTILINE | re.DOTALL)
    assert files is not None
    assert files[1].split() == list(dict.fromkeys(re.findall(r'"([\w-]+\.yaml)"', condition("knative", "sha256"))))
