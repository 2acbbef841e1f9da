"""Why a document is not searchable, as a closed list of reasons.

`rejected` documents are what they are (encrypted, empty): another file is needed. `quarantined` ones broke a limit of
the parser's or the parser itself: they are kept away from it until they are uploaded anew.
"""

from __future__ import annotations

REJECTED = frozenset({"empty", "encrypted", "corrupt", "too_large", "unsupported", "no_text"})
QUARANTINED = frozenset({"zip_bomb", "parse_timeout", "parse_memory", "parser_crash", "attempts_exhausted"})


class Refused(Exception):
    """The document will not become searchable. An unknown reason is a crash of the parser's."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason if reason in REJECTED | QUARANTINED else "parser_crash"
        self.detail = detail

    @property
    def state(self) -> str:
        return "rejected" if self.reason in REJECTED else "quarantined"


def refused(reason: str, detail: str) -> Refused:
    """A refusal for a reason of the list; any other is a slip of ours."""
    assert reason in REJECTED | QUARANTINED, reason
    return Refused(reason, detail)
