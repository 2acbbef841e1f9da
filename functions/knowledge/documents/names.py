"""Documents' names: a path of readable segments below `documents/` of the tenant's bucket."""

from __future__ import annotations

import unicodedata

from shared.errors import Invalid
from shared.objects import checked_key

PREFIX = "documents/"


def document_key(name: str) -> str:
    """The object's key. Raises `Invalid`: empty, `..`, control characters, a slash at the end, too long."""
    if not name.strip() or name.endswith("/"):
        raise Invalid(f"{name[:80]!r} is no document's name: it is not empty and ends with no slash")
    if "\ufffd" in name:
        raise Invalid(f"{name[:80]!r} is no document's name: it is not UTF-8")
    if "\\" in name:
        raise Invalid(f"{name[:80]!r} is no document's name: segments are parted by '/', not by a backslash")
    if any(unicodedata.category(character) == "Cf" for character in name):
        raise Invalid(f"{name[:80]!r} is no document's name: it holds an invisible formatting character")
    return checked_key(PREFIX + unicodedata.normalize("NFC", name))


def document_name(key: str) -> str:
    return key.removeprefix(PREFIX)


def object_key(name: str) -> str:
    """The key of a document however it came: what was put into the bucket itself keeps the name it has there.

    Raises `Invalid`.
    """
    return checked_key(PREFIX + name)


def spellings(name: str) -> tuple[str, ...]:
    """The names that a caller may mean: as it is spelled, and as an upload would keep it. Raises `Invalid`."""
    object_key(name)
    return tuple(dict.fromkeys((name, unicodedata.normalize("NFC", name))))
