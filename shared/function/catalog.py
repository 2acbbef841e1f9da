"""Every function there is, found by its folder. Routes, schemas, manifests and tests are derived from here."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.errors import Fault
from shared.function.declaration import (
    DeadLettered,
    DomainEvent,
    Every,
    Function,
    ObjectCreated,
    ObjectRemoved,
    Operation,
    Route,
)

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Deployable:
    """A declared function under its name: functions/knowledge/search/function.py → `knowledge-search`."""

    name: str
    module: str
    function: Function

    @property
    def capability(self) -> str:
        return self.module.split(".")[1]

    @property
    def summary(self) -> str:
        document = importlib.import_module(self.module).__doc__ or ""
        return document.strip().partition("\n")[0]

    def routes(self) -> Iterator[tuple[Operation, Route]]:
        for operation in self.function.operations:
            if isinstance(operation.trigger, Route):
                yield operation, operation.trigger

    def subscriptions(self) -> Iterator[tuple[Operation, ObjectCreated | ObjectRemoved | DomainEvent]]:
        for operation in self.function.operations:
            if isinstance(operation.trigger, ObjectCreated | ObjectRemoved | DomainEvent):
                yield operation, operation.trigger

    def schedules(self) -> Iterator[tuple[Operation, Every]]:
        for operation in self.function.operations:
            if isinstance(operation.trigger, Every):
                yield operation, operation.trigger

    @property
    def takes_events(self) -> bool:
        """Whether it takes CloudEvents at all: from a stream or a broker, or from who tells the time."""
        return any(not isinstance(operation.trigger, Route) for operation in self.function.operations)

    @property
    def subscribes(self) -> bool:
        """Whether a stream or a broker has events for it."""
        return any(True for _ in self.subscriptions()) or any(True for _ in self.schedules())

    @property
    def keeps_dead_letters(self) -> bool:
        return any(isinstance(operation.trigger, DeadLettered) for operation in self.function.operations)


def find(root: Path = ROOT) -> list[Deployable]:
    """Import every functions/*/*/function.py below `root`, in the order of their names."""
    return [load(path, root) for path in sorted(root.glob("functions/*/*/function.py"))]


def select(names: Sequence[str], root: Path = ROOT) -> list[Deployable]:
    """The named functions, or all when no name is given. Only what is named is imported. Raises `Fault`."""
    if not names:
        return find(root)
    paths = {name_of(path): path for path in sorted(root.glob("functions/*/*/function.py"))}
    unknown = [name for name in names if name not in paths]
    if unknown:
        raise Fault(f"DCODER_FUNCTION names {unknown[0]!r}, which does not exist. Known: {', '.join(sorted(paths))}")
    return [load(paths[name], root) for name in names]


def name_of(path: Path) -> str:
    return f"{path.parent.parent.name}-{path.parent.name}".replace("_", "-")


def load(path: Path, root: Path) -> Deployable:
    module_name = ".".join(path.relative_to(root).with_suffix("").parts)
    module = importlib.import_module(module_name)
    declared = [value for value in vars(module).values() if isinstance(value, Function)]
    if len(declared) != 1:
        raise Fault(f"{path.relative_to(root)} declares {len(declared)} functions; it must declare exactly one")
    return Deployable(name_of(path), module_name, declared[0])
