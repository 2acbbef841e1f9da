"""`image build`: the container image of all functions, without a container engine."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shared.cli.failures import Failed, Misused
from shared.cli.output import Result, command, rows_of, say, table
from shared.host.stack import ROOT

if TYPE_CHECKING:
    from knative.image.layout import Image

MB = 1_000_000


@click.group(name="image")
def image_command() -> None:
    """Build the image that all functions run in."""


def built_text(result: Result) -> str:
    rows = [(row["name"], f"{float(str(row['bytes'])) / MB:.1f} MB") for row in rows_of(result, "layers")]
    total = f"{float(str(result['bytes'])) / MB:.1f} MB"
    written = f"{result['output']}: {result['name']}, {result['digest']}"
    return "\n".join((table([*rows, ("all", total)], head=("layer", "uncompressed")), written))


@command(built_text, name="build")
@click.option(
    "--variant", default="functions", show_default=True, help="functions, translate (with litellm) or stores."
)
@click.option("--output", type=click.Path(path_type=Path), help="The OCI archive. Default: dcoder-VARIANT.tar")
@click.option("--tag", "name", help="REPOSITORY:TAG. Default: the one that knative/environments/local.yaml names.")
@click.option("--base", type=click.Path(path_type=Path), help="OCI archive or root folder; default: this Python.")
@click.option("--revision", help="For the label. Default: the commit that is checked out.")
@click.option("--source", default="", help="For the label: where the code is, as a URL.")
@click.option("--force", is_flag=True, help="Overwrite the output.")
def build_command(
    variant: str,
    output: Path | None,
    name: str | None,
    base: Path | None,
    revision: str | None,
    source: str,
    force: bool,
) -> Result:
    """Write the image as an OCI archive: for ctr, docker load, podman load, skopeo or crane.

    The same commit, locks and Python give the same digest. docs/how-to/image.md says what to do with it.
    """
    from knative.image.build import Wanted, build
    from knative.image.contents import VARIANTS

    if variant not in VARIANTS:
        raise Misused(f"there is no variant {variant!r}", why=f"known: {', '.join(VARIANTS)}")
    target = output or Path(f"dcoder-{variant}.tar")
    if target.exists() and not force:
        raise Failed(f"{target} exists", fix="give another --output, or --force to overwrite it")
    called = name or default_name(variant)
    wanted = Wanted(VARIANTS[variant], called, revision if revision is not None else checked_out(), source, base)
    image = build(wanted, target, progress=say)
    return {"output": str(target), "name": called, "variant": variant, **sizes(image)}


@command(lambda result: f"staged in {result['folder']}", name="stage")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--variant", default="functions", show_default=True)
def stage_command(folder: Path, variant: str) -> Result:
    """Write each layer's files into a folder of its own. The Dockerfile builds from these."""
    from knative.image.build import stage
    from knative.image.contents import VARIANTS

    if variant not in VARIANTS:
        raise Misused(f"there is no variant {variant!r}", why=f"known: {', '.join(VARIANTS)}")
    if folder.exists() and any(folder.iterdir()):
        raise Failed(f"{folder} is not empty", fix="give a folder that does not exist yet")
    trees = stage(VARIANTS[variant], folder, with_base=True, progress=say)
    return {"folder": str(folder), "layers": list(trees)}


def sizes(image: Image) -> dict[str, object]:
    layers = [{"name": layer.name, "bytes": layer.uncompressed_bytes, "digest": layer.digest} for layer in image.layers]
    return {"digest": image.digest, "bytes": image.uncompressed_bytes, "layers": layers}


def default_name(variant: str) -> str:
    """The name under which the local environment's manifests ask for the image."""
    from knative.environment import beside, load

    image = load("local").image
    repository, _, tag = image.rpartition(":")
    return {"functions": image, "translate": beside(image)}.get(variant, f"{repository}-{variant}:{tag}")


def checked_out() -> str:
    """The commit, marked when files differ from it; empty outside of a git repository."""
    described = subprocess.run(
        ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    return described.stdout.strip() if described.returncode == 0 else ""


image_command.add_command(build_command)
image_command.add_command(stage_command)
