"""`deploy`: the platform as Knative manifests, and on a cluster."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

import click

from shared.cli.bringup import down_command, up_command
from shared.cli.cluster import apply_command, delete_command
from shared.cli.failures import Failed
from shared.cli.output import Result, command
from shared.cli.releases import promote_command, rollback_command, status_command
from shared.cli.stores import prepare_command


@click.group(name="deploy")
def deploy_command() -> None:
    """The platform on a Knative cluster: render, apply, roll back, delete."""


def wanted_files(name: str) -> dict[str, str]:
    from knative.environment import load
    from knative.render import files, render
    from shared.function import catalog

    return files(render(catalog.find(), load(name)))


def render_text(result: Result) -> str:
    changes = result["changed"]
    return "\n".join(str(one) for one in changes) if isinstance(changes, list) and changes else "nothing changed"


@command(render_text, name="render")
@click.option("--environment", "environments", multiple=True, help="Only this one of knative/environments. Repeatable.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write to, instead of knative/rendered.")
@click.option("--check", is_flag=True, help="Write nothing; fail when a file differs.")
def render_command(environments: tuple[str, ...], out: Path | None, check: bool) -> Result:
    """Write the manifests, one folder per environment."""
    from knative.environment import names
    from knative.render import RENDERED, changed, write

    root = out or RENDERED
    differing: list[str] = []
    for name in environments or names():
        wanted = wanted_files(name)
        differing += [str(Path(name) / one) for one in changed(wanted, root / name)]
        if not check:
            write(wanted, root / name)
    if check and differing:
        raise Failed(f"not as the code says: {', '.join(differing)}", fix="./dcoder deploy render")
    return {"ok": True, "folder": str(root), "changed": differing}


def diff_text(result: Result) -> str:
    return str(result["diff"]) or "no difference"


@command(diff_text, name="diff")
@click.option("--environment", "name", default="local", show_default=True, help="One of knative/environments.")
def diff_command(name: str) -> Result:
    """What `render` would change in the committed files."""
    from knative.render import RENDERED, changed

    wanted, folder = wanted_files(name), RENDERED / name
    return {"diff": "".join(difference(wanted, folder, one) for one in changed(wanted, folder))}


def difference(wanted: Mapping[str, str], folder: Path, name: str) -> str:
    before = (folder / name).read_text() if (folder / name).is_file() else ""
    lines = (before.splitlines(keepends=True), wanted.get(name, "").splitlines(keepends=True))
    return "".join(difflib.unified_diff(*lines, fromfile=f"committed/{name}", tofile=f"rendered/{name}"))


deploy_command.add_command(render_command)
deploy_command.add_command(diff_command)
for one in (prepare_command, apply_command, status_command, promote_command, rollback_command, delete_command):
    deploy_command.add_command(one)
for one in (up_command, down_command):
    deploy_command.add_command(one)
