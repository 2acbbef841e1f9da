"""Locked wheels into a folder, each checked against its hash by pip, without the files that no function reads."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from knative.image.contents import BOTOCORE_KEPT, PRUNED, ROOT
from shared.errors import Fault


@dataclass(frozen=True)
class Locked:
    """One entry of a lock: its requirement, and its lines as pip reads them."""

    name: str
    requirement: Requirement
    text: str


@dataclass(frozen=True)
class Wheel:
    """A wheel that was installed: name, version, licence as its metadata states it, file name and its SHA-256."""

    name: str
    version: str
    license: str
    file: str
    sha256: str


def read_lock(name: str, folder: Path = ROOT / "requirements") -> list[Locked]:
    """The lock's entries that hold for this Python and machine. Raises `Fault`."""
    path = folder / f"{name}.lock"
    if not path.is_file():
        raise Fault(f"there is no lock {path.name} in {folder}")
    entries = [locked(line, path) for line in logical_lines(path.read_text())]
    return [entry for entry in entries if entry.requirement.marker is None or entry.requirement.marker.evaluate()]


def logical_lines(text: str) -> list[str]:
    lines = (line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    return [" ".join(line.split()) for line in "\n".join(lines).replace("\\\n", " ").splitlines()]


def locked(line: str, path: Path) -> Locked:
    words, *hashes = line.split(" --hash=")
    try:
        requirement = Requirement(words)
    except InvalidRequirement as wrong:
        raise Fault(f"{path.name}: {line[:60]!r} is not a locked requirement: {wrong}") from wrong
    pinned = [one for one in requirement.specifier if one.operator == "=="]
    if not pinned or not hashes or not all(one.startswith("sha256:") for one in hashes):
        raise Fault(
            f"{path.name}: {requirement.name} needs one version (==) and its SHA-256 hashes; "
            f"write the lock with uv pip compile --generate-hashes, as CONTRIBUTING.md says"
        )
    return Locked(canonicalize_name(requirement.name), requirement, line)


def beyond(wanted: Sequence[Locked], present: Sequence[Locked]) -> list[Locked]:
    """The entries that the lower layer lacks. Raises `Fault` when both have a package at different versions."""
    below = {entry.name: entry for entry in present}
    for entry in wanted:
        other = below.get(entry.name)
        if other and other.requirement.specifier != entry.requirement.specifier:
            raise Fault(f"two locks differ: {other.requirement} and {entry.requirement}; compile them again together")
    return [entry for entry in wanted if entry.name not in below]


def install(entries: Sequence[Locked], target: Path, *, pruned: bool = True) -> list[Wheel]:
    """Unpack the entries' wheels into `target`, programs included unless pruned. In the order of their names.

    Raises `Fault`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        report, lock, unpacked = Path(scratch, "report.json"), Path(scratch, "kept.lock"), Path(scratch, "unpacked")
        lock.write_text("\n".join(entry.text for entry in entries) + "\n")
        options = ["--quiet", "--require-hashes", "--no-deps", "--only-binary", ":all:", "--no-compile"]
        places = ["--target", str(unpacked), "--report", str(report), "--requirement", str(lock)]
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", *options, *places]
        done = subprocess.run(pip, capture_output=True, text=True)  # noqa: S603  pip of this environment
        if done.returncode != 0:
            raise Fault(f"pip could not install the locked wheels: {done.stderr.strip()[-1500:]}")
        wheels = [wheel(one) for one in json.loads(report.read_text())["install"]]
        left_out = pruned_below(unpacked) if pruned else None
        shutil.copytree(unpacked, target, dirs_exist_ok=True, ignore=left_out, symlinks=True)
    drop_empty(target)
    return sorted(wheels, key=lambda one: one.name)


def wheel(entry: dict[str, dict[str, object]]) -> Wheel:
    """One entry of pip's installation report."""
    metadata, download = entry["metadata"], entry["download_info"]
    archive = download["archive_info"]
    assert isinstance(archive, dict), "a locked wheel comes from an archive"
    license_text = str(metadata.get("license_expression") or metadata.get("license") or "").strip()
    return Wheel(
        name=canonicalize_name(str(metadata["name"])),
        version=str(metadata["version"]),
        license=license_text.partition("\n")[0],
        file=str(download["url"]).rpartition("/")[2],
        sha256=str(archive["hashes"]["sha256"]),
    )


def is_pruned(relative: str) -> bool:
    """Whether a wheel's file stays out of the image. `relative` is its path below site-packages."""
    if relative.startswith("botocore/data/"):
        return relative.count("/") > 2 and not relative.startswith(BOTOCORE_KEPT)
    return any(fnmatchcase(relative, pattern) for pattern in PRUNED)


def pruned_below(root: Path) -> Callable[[str, list[str]], set[str]]:
    """What `shutil.copytree` leaves out of a tree of wheels."""

    def ignored(folder: str, names: list[str]) -> set[str]:
        place = Path(folder).relative_to(root)
        return {name for name in names if not Path(folder, name).is_dir() and is_pruned((place / name).as_posix())}

    return ignored


def drop_empty(root: Path) -> None:
    """Remove folders in which nothing is left, the innermost first."""
    for folder in sorted((path for path in root.rglob("*") if path.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()
