"""Looking through a text that comes in pieces: the findings are those of the whole text, however it is cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from shared.guardrails.rules import MATCH_CHARS_MAX, Rule

SLICE_CHARS = 4096
AHEAD = MATCH_CHARS_MAX + 1
"""A match that begins before the last so many characters cannot change by what comes."""


@dataclass(frozen=True)
class Finding:
    """`text` stands at `[start, end)` of the text, in characters. It is for the fingerprint alone, and never shown."""

    rule: str
    kind: str
    start: int
    end: int
    text: str = field(repr=False)


@dataclass
class Scan:
    """One text on its way. `feed` and `end` give each finding once, in no order across rules."""

    rules: Sequence[Rule]
    _held: str = ""
    _base: int = 0
    _judged: int = 0
    _past: dict[str, int] = field(default_factory=dict)

    def feed(self, piece: str) -> Iterator[Finding]:
        self._held += piece
        if len(self._held) >= SLICE_CHARS + AHEAD:
            yield from self._found(self._base + len(self._held) - AHEAD)

    def end(self) -> Iterator[Finding]:
        yield from self._found(self._base + len(self._held) + 1)

    def _found(self, until: int) -> Iterator[Finding]:
        """The matches that begin before `until`; what can take part in no later one is dropped."""
        for rule in self.rules:
            if rule.needs not in self._held:
                continue
            begin = max(self._judged, self._past.get(rule.name, 0)) - self._base
            for match in rule.pattern.finditer(self._held, begin):
                if self._base + match.start() >= until:
                    break
                self._past[rule.name] = self._base + match.end()
                if counted := rule.judge(match.group()):
                    start = self._base + match.start()
                    yield Finding(rule.name, rule.kind, start, start + counted, match.group()[:counted])
        self._judged = until
        gone = max(0, until - 1 - self._base)  # one character stays: patterns look back at it
        self._held, self._base = self._held[gone:], self._base + gone


def scan(text: str, rules: Sequence[Rule]) -> list[Finding]:
    """All findings of a text, in its order."""
    one = Scan(rules)
    found = [*one.feed(text), *one.end()]
    return sorted(found, key=lambda finding: (finding.start, finding.rule))
