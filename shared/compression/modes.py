"""The ways in which a prompt is shortened, and what is put aside on one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

Mode = Literal["lossless", "reversible", "passages"]
MODES: Sequence[Mode] = get_args(Mode)


@dataclass(frozen=True)
class Original:
    """A result that was put aside, under the id that stands in its place."""

    id: str
    text: str = field(repr=False)
