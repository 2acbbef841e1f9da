"""The unit of retrieval: one contiguous piece of a document's stored text."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Chunk:
    """A span of the stored text: `stored_text[start:end] == text` always holds."""

    id: str
    ordinal: int
    start: int
    end: int
    page: int | None
    heading: str
    text: str
