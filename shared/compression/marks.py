"""What stands in a text for something that was left out. A text that has such a mark already is passed on as it is."""

from __future__ import annotations

OPENING = "[dcoder: "


def mark(what: str) -> str:
    return f"{OPENING}{what}]"
