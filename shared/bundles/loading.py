"""Importing a bundle: from the verified bytes in memory, as a package named like the function.

Only under a name that nothing else has, so that a file of the bundle can stand in for no module of the platform or of
Python.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder, SourceLoader
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import TYPE_CHECKING

from shared.bundles.manifest import CAPABILITY, NAME, Manifest, parsed
from shared.bundles.signing import Bundle, Sealed, opened
from shared.errors import Fault, Invalid
from shared.function.catalog import ROOT, Deployable
from shared.function.declaration import Function, Route
from shared.ids import TenantId

if TYPE_CHECKING:
    from types import ModuleType

    from shared.settings import Settings

OURS = frozenset({"functions", "knative", "shared", "tests"})
ORIGIN = "/bundle"
"""Where the files seem to be, in tracebacks."""
ARCHIVE, STATEMENT, SIGNATURE = "bundle.zip", "statement.json", "signature"


class Finder(MetaPathFinder, SourceLoader):  # type: ignore[misc]  # typeshed gives its bases two signatures
    """Finds and loads the modules of one package from files in memory."""

    def __init__(self, package: str, files: Mapping[str, bytes]) -> None:
        self._package = package
        self._files = {f"{ORIGIN}/{package}/{path}": content for path, content in files.items()}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._package and not fullname.startswith(self._package + "."):
            return None
        place = f"{ORIGIN}/{fullname.replace('.', '/')}"
        if not any(one == f"{place}.py" or one.startswith(f"{place}/") for one in self._files):
            return None
        return importlib.util.spec_from_file_location(fullname, self.get_filename(fullname), loader=self)

    def get_filename(self, fullname: str) -> str:
        place = f"{ORIGIN}/{fullname.replace('.', '/')}"
        return f"{place}.py" if f"{place}.py" in self._files else f"{place}/__init__.py"

    def get_data(self, path: str | bytes) -> bytes:
        """A file's bytes: modules, and what `pkgutil.get_data` asks for. A folder without `__init__.py` has an empty
        one."""
        name = str(path)
        if name in self._files:
            return self._files[name]
        if name.endswith("/__init__.py"):
            return b""
        raise FileNotFoundError(name)


def imported(package: str, files: Mapping[str, bytes]) -> Deployable:
    """Import the package's `function.py`. Raises `Invalid` for a name that is taken and for a flawed declaration."""
    if not NAME.fullmatch(package):
        raise Invalid(f"{package!r} is no name: lower-case words joined by single underscores")
    if is_taken(package):
        raise Invalid(f"{package!r} is the name of a module that Python or the platform has; choose another")
    finder = Finder(package, files)
    sys.meta_path.insert(0, finder)
    try:
        module = importlib.import_module(f"{package}.function")
    except Exception as failure:
        raise Invalid(f"function.py cannot be imported: {type(failure).__name__}: {failure}") from failure
    declared = [value for value in vars(module).values() if isinstance(value, Function)]
    if len(declared) != 1:
        raise Invalid(f"function.py declares {len(declared)} functions; it must declare exactly one")
    return Deployable(f"{CAPABILITY}-{package.replace('_', '-')}", module.__name__, declared[0])


def is_taken(package: str) -> bool:
    """Whether Python, an installed package or the platform has the name. Folders beside the platform's have none."""
    if package in OURS or package in sys.modules or package in sys.stdlib_module_names:
        return True
    installed = [place for place in sys.path if place and Path(place).resolve() != ROOT]
    return PathFinder.find_spec(package, installed) is not None


def declared(package: str, deployable: Deployable) -> Manifest:
    """What an imported function declares. Raises `Invalid` for what a tenant's own function cannot."""
    from shared.function.injection import PROVIDERS, hints_of

    function = deployable.function
    if any(not isinstance(one.trigger, Route) for one in function.operations):
        raise Invalid("a tenant's own function is started by calls only, not by events or schedules")
    if function.scale.min:
        raise Invalid("a tenant's own function sleeps when nobody calls it: Scale.min is 0")
    hints = [hint for one in function.operations for name, hint in hints_of(one.handler).items() if name != "return"]
    said = Manifest.model_construct(
        name=package,
        summary=deployable.summary,
        timeout_s=function.timeout_s,
        instances_max=function.scale.max,
        concurrency=function.scale.concurrency,
        body_bytes_max=function.body_bytes_max,
        routes=tuple(
            {
                "method": route.method,
                "path": route.path,
                "permission": route.permission,
                "body_bytes_max": route.body_bytes_max,
            }
            for _, route in deployable.routes()
        ),
        asks=tuple(sorted({hint.__name__ for hint in hints if hint in PROVIDERS})),
    )
    return parsed(said.model_dump_json(warnings=False))


def loaded(settings: Settings) -> Deployable:
    """The function of the bundle that this process is to run, verified before anything of it is imported.

    Raises `Fault` when it is not the signed one, or declares anything but what was signed.
    """
    from shared.errors import Problem
    from shared.secrets import read_key

    assert settings.bundle is not None
    if not settings.dedicated_tenant:
        raise Fault("DCODER_BUNDLE is set without DCODER_TENANT: a tenant's own function serves that tenant alone")
    try:
        bundle = opened(
            read(settings.bundle),
            public=read_key(settings, "issuer"),
            tenant=TenantId(settings.dedicated_tenant),
            digest=settings.bundle_digest,
        )
        return checked(bundle)
    except Problem as refused:
        raise Fault(f"the bundle in {settings.bundle} is not run: {refused.detail}") from refused


def checked(bundle: Bundle) -> Deployable:
    """The imported function. Raises `Invalid` when it declares anything but what was signed."""
    deployable = imported(bundle.manifest.name, bundle.files)
    if declared(bundle.manifest.name, deployable) != bundle.manifest:
        raise Invalid("function.py declares something else than what was signed with it")
    return deployable


def read(folder: Path) -> Sealed:
    """A bundle from its three files. Raises `Fault`."""
    try:
        parts = [(folder / name).read_bytes() for name in (ARCHIVE, STATEMENT, SIGNATURE)]
    except OSError as failure:
        raise Fault(f"cannot read the bundle in {folder}: {failure.strerror}") from failure
    return Sealed(*parts)
