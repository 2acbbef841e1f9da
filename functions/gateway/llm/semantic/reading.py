"""A question as it is compared: what is asked for, the words that decide, and the marks of which none may differ.

Nothing here knows a model: a reading is made by rules and lists of words, so the same question is always read the same.
English is read closely. Of German, French and Spanish only the small words are known, so less counts as the same there.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from functions.gateway.llm.semantic.lexicon import Lexicon, lexicon

QUOTED = re.compile(r"[\"“”„«»]([^\"“”„«»]{1,80})[\"“”„«»]|`([^`]{1,80})`")
IDENTIFIER = re.compile(r"(?=\S*[A-Za-z])(?=\S*[\d_/\\@#.:-])[\w/\\@#.:+-]*[\w/](?:\+\+|#)?|C\+\+|C#")
HYPHENATED = re.compile(r"(?<=[a-z])[-‐‑–](?=[a-z])", re.IGNORECASE)
NAME = re.compile(r"(?<![.?!:] )(?<!^)(?<!\w)[A-ZÀ-Ý][\w']*")
WORD = re.compile(r"@\w+|\d+[^\W\d]\w*|\d+(?:[.,:]\d+)*|[^\W\d]\w*|[€$£%°]")
ORDINAL = re.compile(r"(\d+)(?:st|nd|rd|th)")
CONTRACTIONS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), plain)
    for pattern, plain in (
        (r"\b(?:24/7|24 hours a day,? (?:7|seven) days a week)", "around the clock"),
        (r"\bwon't\b", "will not"),
        (r"\b(?:can't|cannot)\b", "can not"),
        (r"n't\b", " not"),
        (r"\b(what|who|where|when|how|why|that|there|it|here)'s\b", r"\1 is"),
        (r"'re\b", " are"),
        (r"\bi'm\b", "i am"),
        (r"'ve\b", " have"),
        (r"'d\b", " would"),
        (r"'ll\b", " will"),
        (r"'s\b", ""),
        (r"s'(?= |$)", "s"),
        (r"\bus \$|\$(?=\d)", " dollar "),
        (r"'", " "),
    )
)
ROLES = frozenset({"from", "to", "into", "than", "by", "of", "in", "von", "nach", "vers"})
"""Small words behind which a word has a part of its own: who gives, who takes, what is compared with what."""
READ_MAX = 1000
NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
ROLE_WORDS_MAX = 3
PAST, PRESENT = frozenset({"was", "were", "did", "had"}), frozenset({"is", "are", "do", "does", "am", "will"})


@dataclass(frozen=True)
class Word:
    """`text` as it stands in the question, in small letters; `stem` what is compared. An exact one has no synonyms, a
    weak one may be left out."""

    text: str
    stem: str
    exact: bool = False
    weak: bool = False


@dataclass(frozen=True)
class Reading:
    """What counts of a question."""

    language: str
    asked: frozenset[str]
    """Marks of what is asked for: a way, a reason, a time, a price, ..."""
    words: tuple[Word, ...]
    marks: tuple[tuple[str, tuple[str, ...]], ...]
    """What must be the same to the letter: numbers, names of files and codes, quoted words, negations, and so on."""
    names: frozenset[str]
    roles: Mapping[str, tuple[str, ...]]
    content: frozenset[str]
    """Stems and numbers, all of them."""
    tense: str = ""


@lru_cache(maxsize=READ_MAX)
def read(question: str) -> Reading:
    known = lexicon()
    text = unicodedata.normalize("NFKC", question).replace("’", "'").strip()
    quoted = sorted(next(filter(None, found)).casefold() for found in QUOTED.findall(text))
    text = QUOTED.sub(" quotedtext ", text)
    text = re.sub(r"\bv(?=\d)", "version ", text)
    text = re.sub(r"(?<!^)\bMay\b", "month_may", text)
    text = re.sub(r"\bU\.?S\.?(?:A\.?)?(?!\w)", "usa", text)
    codes = sorted(
        found.rstrip(".:")
        for found in IDENTIFIER.findall(HYPHENATED.sub(" ", text))
        if is_code(found) and found.casefold() not in known.groups
    )
    for code in codes:
        text = text.replace(code, " ")
    names = frozenset(found.casefold().removesuffix("'s") for found in NAME.findall(text) if found != "I")
    plain = in_small_letters(text)
    words = with_units([numbered(word) for word in WORD.findall(plain)], known)
    language = known.language(words)
    if language == "en":
        words = WORD.findall(known.rewritten(" ".join(known.joined(words)))) if words else []
    return put_together(plain, words, names, language, {"code": tuple(codes), "quoted": tuple(quoted)})


def put_together(
    plain: str, words: list[str], names: frozenset[str], language: str, exact: Mapping[str, tuple[str, ...]]
) -> Reading:
    known = lexicon()
    asked = frozenset(word for word in words if word.startswith("@")) or frozenset({"@what"})
    content = [word for word in words if not word.startswith("@")]
    marks = {
        **exact,
        "number": tuple(sorted(word for word in content if NUMBER.fullmatch(word))),
        "negation": told("negation", content),
        "quantifier": told("quantifier", content),
        "modality": modality(content, asked),
        "person": told("person", content),
    }
    skipped = {"must", "should"}.union(*(known.marks[kind] for kind in ("negation", "quantifier", "person")))
    kept = tuple(
        known.word(word, language, exact=word in names)
        for word in content
        if word not in skipped and not NUMBER.fullmatch(word) and not known.is_light(word, language)
    )
    stems_of_names = frozenset(known.word(name, language).stem for name in names)
    all_of = frozenset(known.word(word, language).stem for word in content)
    return Reading(
        language,
        asked,
        kept,
        tuple(sorted(marks.items())),
        stems_of_names,
        roles_in(content, known, language),
        all_of,
        tense(plain),
    )


def told(kind: str, words: list[str]) -> tuple[str, ...]:
    """The marks of a kind, sorted."""
    meaning = lexicon().marks[kind]
    return tuple(sorted(meaning[word] for word in words if word in meaning))


def roles_in(words: list[str], known: Lexicon, language: str) -> Mapping[str, tuple[str, ...]]:
    """The words that count behind each number and each small word that gives them a part, up to the next such."""
    found: dict[str, tuple[str, ...]] = {}
    role = ""
    for word in words:
        filling = word not in ROLES and not known.is_light(word, language)
        if role and role != word and filling and len(found.get(role, ())) < ROLE_WORDS_MAX:
            found[role] = (*found.get(role, ()), known.word(word, language).stem)
        if word in ROLES or NUMBER.fullmatch(word):
            role = word
    return found


def modality(words: list[str], asked: frozenset[str]) -> tuple[str, ...]:
    """Who asks whether something should be, asks otherwise than who asks what should be done."""
    telling = {"must", "should"} if "@if" in asked else {"must"}
    return tuple(sorted(telling & set(words)))


def is_code(found: str) -> bool:
    """Whether it is a name of a file, a code, a version or a path, and not a word at the end of a sentence."""
    core = found.rstrip(".:")
    if ORDINAL.fullmatch(core) or re.fullmatch(r"\d+/\d+", core):
        return False
    return bool(re.search(r"[A-Za-z]", core) and (re.search(r"\d|[_/\\@#]|\w\.\w", core)))


def in_small_letters(text: str) -> str:
    text = HYPHENATED.sub(" ", text.casefold())
    text = re.sub(r"(?<=\d)[, ](?=\d{3}\b)", "", text)
    for pattern, plain in CONTRACTIONS:
        text = pattern.sub(plain, text)
    return text


def with_units(words: list[str], known: Lexicon) -> list[str]:
    """The words with units in one form. A letter alone is a unit only behind a number."""
    return [
        known.units.get(word, word) if len(word) > 1 or not word.isalpha() or words[place - 1][:1].isdigit() else word
        for place, word in enumerate(words)
    ]


def numbered(word: str) -> str:
    if found := ORDINAL.fullmatch(word):
        return found.group(1)
    return lexicon().marks["number"].get(word, word)


def tense(plain: str) -> str:
    """Of the first word that tells it; empty when none does."""
    for word in plain.split():
        if word in PAST:
            return "past"
        if word in PRESENT:
            return "present"
    return ""
