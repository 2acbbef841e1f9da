"""How a function is declared and served. Importing this loads the standard library only."""

from shared.function.call import Call, Tick
from shared.function.declaration import (
    DeadLettered,
    DomainEvent,
    Every,
    Function,
    Minute,
    ObjectCreated,
    ObjectRemoved,
    Operation,
    Route,
    Scale,
)

__all__ = [
    "Call",
    "DeadLettered",
    "DomainEvent",
    "Every",
    "Function",
    "Minute",
    "ObjectCreated",
    "ObjectRemoved",
    "Operation",
    "Route",
    "Scale",
    "Tick",
]
