"""Lists of words: what means the same, what does not count, and the forms in which questions are put.

`wordnet.txt` is drawn from Princeton WordNet 3.1 (its licence is in `wordnet-licence.txt`): stems of common words that
share one of their first three meanings, or are derived from each other. The other lists are ours.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from functions.gateway.llm.semantic.reading import Word

PARTICLES = frozenset({"on", "off", "out", "up", "down", "back", "over"})
ENDING = frozenset({"in", "at", "for", "from", "to", "with", "when", "if", "after", "befor", "by", "on"})
"""Words that may follow a particle at the end of its verb's object."""
PARTED_MAX = 6
STEMS_MAX = 8192
HERE = Path(__file__).parent
STEMMERS: Mapping[str, str] = {"en": "english", "de": "german", "fr": "french", "es": "spanish"}


@dataclass(frozen=True)
class Phrase:
    """Several words that mean something together."""

    text: str
    stems: list[str]


@dataclass(frozen=True)
class Lexicon:
    groups: Mapping[str, frozenset[int]]
    meanings: Mapping[str, frozenset[int]]
    light: frozenset[str]
    forms: Mapping[str, Sequence[tuple[re.Pattern[str], str]]]
    """Of each language."""
    phrases: Mapping[str, Sequence[Phrase]]
    weak: frozenset[str]
    telling: frozenset[str]
    units: Mapping[str, str]
    bases: Mapping[str, str]
    small: Mapping[str, frozenset[str]]
    """The words by which a language is known."""
    marks: Mapping[str, Mapping[str, str]]
    """What negates, what says how many, whose it is, and numbers, each with what it is compared as."""

    def joined(self, words: Sequence[str]) -> list[str]:
        """The words, with those made one that mean something together, whatever their endings."""
        found: list[str] = []
        place = 0
        words = list(words)
        stems = [stem_of(word, "en") for word in words]
        while place < len(words):
            starting = self.phrases.get(stems[place], ())
            phrase = next((each for each in starting if stems[place : place + len(each.stems)] == each.stems), None)
            if phrase is None and (parted := parted_in(starting, stems, place)) is not None:
                phrase, particle = parted
                found.append(phrase.text)
                del words[particle], stems[particle]
                place += 1
                continue
            found.append(phrase.text if phrase else words[place])
            place += len(phrase.stems) if phrase else 1
        return found

    def rewritten(self, text: str, language: str) -> str:
        """The question in its plainest form."""
        text = " ".join(text.split())
        for pattern, plain in self.forms[language]:
            if pattern.search(text):
                text = " ".join(pattern.sub(f" {plain} ", text).split())
        return text

    def language(self, words: Sequence[str]) -> str:
        """The one whose small words occur most; English when none do."""
        counts = {language: sum(word in small for word in words) for language, small in self.small.items()}
        return max(counts, key=lambda language: counts[language])

    def is_light(self, word: str, language: str) -> bool:
        return word in (self.light if language == "en" else self.small[language])

    def word(self, text: str, language: str, *, exact: bool = False) -> Word:
        from functions.gateway.llm.semantic.reading import Word

        text = self.bases.get(text, text) if language == "en" else text
        stem = text if "_" in text else stem_of(text, language)
        stem = stem if language == "en" else f"{language}:{stem}"
        exact = exact or language != "en" or text in self.units
        return Word(text, stem, exact, language == "en" and not exact and (text in self.weak or stem in self.weak))

    def meant(self, text: str, language: str) -> str:
        """What is the same for words of one line, and stands for a word where only its place is looked at."""
        word = self.word(text, language)
        numbers = self.groups.get(word.text) or self.groups.get(word.stem)
        return f"={min(numbers)}" if numbers else word.stem

    def knows(self, word: Word) -> bool:
        return word.stem in self.meanings or word.text in self.groups or word.stem in self.groups

    def same(self, one: Word, other: Word) -> float:
        """How surely two words may stand for each other: 1 for the same word, 0 for a difference."""
        if one.stem == other.stem:
            return 1.0
        if self.groups.get(one.text, NONE) & self.groups.get(other.text, NONE) or (
            self.groups.get(one.stem, NONE) & self.groups.get(other.stem, NONE)
        ):
            return 0.95
        if derived(one.stem, other.stem):
            return 0.85
        if misspelt(one.text, other.text) and self.knows(one) != self.knows(other):
            return 0.85
        if one.exact or other.exact:
            return 0.85 if plural(one.stem, other.stem) else 0.0
        return 0.85 if self.meanings.get(one.stem, NONE) & self.meanings.get(other.stem, NONE) else 0.0


NONE: frozenset[int] = frozenset()
SUFFIX = re.compile(r"(?:abl|ibl|li|ical|ment|ness|ation|ian|iti|anc|enc)$")
"""Endings, as the stemmer leaves them, that make another kind of word of one that means the same."""
ROOT_CHARS_MIN, PLURAL_CHARS_MIN = 5, 3


def derived(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=len)
    return len(short) >= ROOT_CHARS_MIN and long.startswith(short) and bool(SUFFIX.fullmatch(long[len(short) :]))


def plural(one: str, other: str) -> bool:
    """Of a name, which the stemmer leaves as it is, or its genitive."""
    short, long = sorted((one, other), key=len)
    return len(short) >= PLURAL_CHARS_MIN and long == short + "s"


MISSPELT_CHARS_MIN, SHORTENED_CHARS_MIN = 4, 7
REPEATED = re.compile(r"(.)\1")


def misspelt(one: str, other: str) -> bool:
    """Whether two long words that begin alike differ in a doubled letter or in two that are exchanged, or, if they are
    longer still, in one letter more."""
    short, long = sorted((one, other), key=len)
    if len(short) < MISSPELT_CHARS_MIN or short[0] != long[0] or not (short + long).isalpha():
        return False
    if REPEATED.sub(r"\1", short) == REPEATED.sub(r"\1", long):
        return True
    if len(short) == len(long):
        apart = [place for place in range(len(short)) if short[place] != long[place]]
        return len(apart) == 2 and short[apart[0] : apart[1] + 1] == long[apart[0] : apart[1] + 1][::-1]
    more = next((place for place in range(len(short)) if short[place] != long[place]), len(short))
    return len(long) == len(short) + 1 >= SHORTENED_CHARS_MIN and short[more:] == long[more + 1 :]


@cache
def lexicon() -> Lexicon:
    """Read once, by the first question of a process that is compared with another."""
    groups: dict[str, set[int]] = defaultdict(set)
    plain = [line for line in lines("groups.txt") if not line.startswith("unit ")]
    for number, line in enumerate(plain):
        language, _, words = line.rpartition(": ")
        for word in words.split():
            for known_as in (f"{language}:{stem_of(word, language)}",) if language else (word, stem_of(word, "en")):
                groups[known_as].add(number)
    meanings: dict[str, set[int]] = defaultdict(set)
    for number, line in enumerate(lines("wordnet.txt")):
        for stem in line.split():
            meanings[stem].add(number)
    units = [line.split()[1:] for line in lines("groups.txt") if line.startswith("unit ")]
    light = [line.split() for line in lines("light.txt")]
    return Lexicon(
        {word: frozenset(numbers) for word, numbers in groups.items()},
        {stem: frozenset(numbers) for stem, numbers in meanings.items()},
        frozenset(word for words in light if words[0] not in ("weak", "telling") for word in words),
        {language: tuple(of) for language, of in forms().items()},
        phrases_in([*groups, *(name for names in units for name in names)]),
        frozenset(
            form for words in light if words[0] == "weak" for word in words[1:] for form in (word, stem_of(word, "en"))
        ),
        frozenset(word for words in light if words[0] == "telling" for word in words[1:]),
        {name: names[0] for names in units for one in names for name in ((one, one + "s") if len(one) > 1 else (one,))},
        {form: forms[0] for forms in map(str.split, lines("irregular.txt")) for form in forms[1:]},
        {line.split()[1]: frozenset(line.split()[2:]) for line in lines("marks.txt") if line.startswith("small ")},
        marks(),
    )


def parted_in(starting: Sequence[Phrase], stems: Sequence[str], place: int) -> tuple[Phrase, int] | None:
    """A verb with its particle some words behind it, as in `turn the light off`, and where that is."""
    for phrase in starting:
        if len(phrase.stems) == 2 and phrase.stems[1] in PARTICLES:
            for behind in range(place + 2, min(place + PARTED_MAX, len(stems))):
                if stems[behind] == phrase.stems[1] and (behind + 1 == len(stems) or stems[behind + 1] in ENDING):
                    return phrase, behind
    return None


def marks() -> Mapping[str, Mapping[str, str]]:
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for line in lines("marks.txt"):
        kind, compared_as, *words = line.split()
        if kind != "small":
            found[kind] |= dict.fromkeys(words, compared_as)
    return found


def phrases_in(words: Iterable[str]) -> Mapping[str, Sequence[Phrase]]:
    """Those of several words by the stem of their first, the longest first."""
    found: dict[str, list[Phrase]] = defaultdict(list)
    for word in sorted((each for each in set(words) if "_" in each), key=len, reverse=True):
        stems = [stem_of(part, "en") for part in word.split("_")]
        found[stems[0]].append(Phrase(word, stems))
    return found


def forms() -> Mapping[str, Sequence[tuple[re.Pattern[str], str]]]:
    """Of English, and of each language behind its name in brackets."""
    named: dict[str, str] = {}
    found: dict[str, list[tuple[re.Pattern[str], str]]] = defaultdict(list)
    language = "en"
    for line in lines("forms.txt"):
        if line.startswith("<"):
            name, _, alternatives = line.partition(" = ")
            named[name] = f"(?:{alternatives})"
            continue
        if line.startswith("["):
            language = line.strip("[]")
            continue
        pattern, _, plain = line.partition(" =>")
        for name, alternatives in named.items():
            pattern = pattern.replace(name, alternatives)
        found[language].append((re.compile(bounded(pattern)), plain.strip()))
    return found


def bounded(pattern: str) -> str:
    """The pattern, ending where a word ends."""
    ahead = re.search(r"\(\?[=!](?:[^()]|\([^()]*\))*\)$", pattern)
    return pattern if ahead or pattern.endswith("$") else pattern + r"(?!\w)"


def lines(name: str) -> Iterator[str]:
    for line in (HERE / name).read_text(encoding="utf-8").splitlines():
        if line and not line.startswith(";"):
            yield line


@cache
def stemmer(language: str) -> Any:  # Any: the stemmer has no types
    import Stemmer

    return Stemmer.Stemmer(STEMMERS[language])


@lru_cache(maxsize=STEMS_MAX)
def stem_of(word: str, language: str) -> str:
    return str(stemmer(language).stemWord(american(word) if language == "en" else word))


BRITISH = tuple(
    (re.compile(pattern), plain)
    for pattern, plain in (
        (r"(al|an|ar|im|or|on|gn|it|il|ym|og|as|rd|er|en|rn|stom|dom)is(e[drs]?|es|ing|ations?)$", r"\1iz\2"),
        (r"(al)ys(e[drs]?|ing)$", r"\1yz\2"),
        (r"([lbvn]i?)our(s?|ed|ing|ite|ites)$", r"\1or\2"),
        (r"(cent|thea|met|lit|fib)re(s?)$", r"\1er\2"),
    )
)


def american(word: str) -> str:
    """In American spelling."""
    for pattern, plain in BRITISH:
        word = pattern.sub(plain, word)
    return word
