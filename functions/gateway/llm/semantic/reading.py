"""A question as it is compared: what is asked for, the words that decide, and the marks of which none may differ.

Nothing here knows a model: a reading is made by rules and lists of words, so the same question is always read the same.
English is read closely. Of German, French and Spanish the forms of questions and common synonyms are known, so less
counts as the same there.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache

from functions.gateway.llm.semantic.lexicon import Lexicon, lexicon

QUOTED = re.compile(r"[\"“”„«»]([^\"“”„«»]{1,80})[\"“”„«»]|`([^`]{1,80})`")
IDENTIFIER = re.compile(r"(?=\S*[A-Za-z])(?=\S*[\d_/\\@#.:-])[\w/\\@#.:+-]*[\w/](?:\+\+|#)?|C\+\+|C#")
HYPHENATED = re.compile(r"(?<=[a-z])[-‐‑–](?=[a-z])|(?<=\d)-(?=[a-z]{3})", re.IGNORECASE)
NAME = re.compile(r"(?<![.?!:] )(?<!^)(?<!\w)[A-ZÀ-Ý][\w']*")
WORD = re.compile(r"@\w+|\d+[^\W\d]\w*|\d+(?:[.,:]\d+)*|[^\W\d]\w*|[€$£%°]")
SIGN = re.compile(r"\^|(?<=\s)(?:[=!<>]=|=)(?=\s)|(?<=\s)[-+*/<>](?=\s*(?:\(|\d|[a-zA-Z]\b))")
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
        (r"(?:°|\bdegrees?) ?(f|c)\b", r" \1"),
        (r"(?:°|\bdegrees?) ?(?=fahrenheit|celsius)", " "),
        (r"(?<=\d) +f\b|(?<=\bto) +f\b|(?<=\bin) +f\b", " fahrenheit"),
        (r"(?<=\d) +c\b|(?<=\bto) +c\b|(?<=\bin) +c\b", " celsius"),
        (r"\bus \$|\$(?=\d)", " dollar "),
        (r"'", " "),
    )
)
LETTERED = re.compile(
    r"(?<![\w.])(\d+(?:\.\d+)?)(?=(?:ms|s|secs?|h|hrs?|mins?|[kmgt]i?b|km|cm|mm|kg|am|pm)\b)", re.IGNORECASE
)
"""A number with its unit right behind it."""
THOUSANDS = re.compile(r"\d{1,3}(?:\.\d{3})+")
INTERROGATIVE = (
    r"(?:(?:by|for|in|at|on|to|from|with) )?(?:what|which|how|who|whom|whose|when|where|why)\b|"
    r"(?:is|are|was|were|can|could|do|does|did|should|must|may|will|would|has|have|am)\b|"
    r"(?:wie|was|wann|warum|wer|wo|welche\w?|worin|kann|ist|darf)\b|¿|(?:quel\w*|comment|quand|où|qui|pourquoi|puis|est)\b"
)
FRONTED = re.compile(rf"^((?:[^,?.!:;]|\d[.,]\d){{3,120}}), (?=(?:{INTERROGATIVE}))([^?]+?)\??$", re.IGNORECASE)
"""What stands before its question, as in `In Paris, how do I ...`."""
STATED = re.compile(rf"^(.{{3,300}}[.!;:?]) (?=(?:{INTERROGATIVE}))([^?]+?)\?$", re.IGNORECASE)
"""Sentences before their question."""
GREETING = re.compile(
    r"^(?:hi|hello|hey|hallo|bonjour|hola|please|also|well)(?: there| all| team)?[,!.]? (?=\w|¿)", re.IGNORECASE
)
ALIKE = {"into": "to", "onto": "to", "as": "to", "rather_than": "instead_of"}
ROLES = re.compile(
    r"from|to|into|than|by|of|in|all|instead_of|with|for|on|over|against|before|after|under|above|below|behind|without|"
    r"von|nach|mit|für|vor|vers|avec|pour|avant|sur|con|para|desde|hacia|antes"
)
"""Small words behind which a word has a part of its own: who gives, who takes, what is compared with what."""
FLOATING = re.compile(r"the|an?|is|are|was|were|am|be|been|do|does|did|has|have|had|can|could|will|would")
UNKNOWN = frozenset({"@unknown"})
"""What is asked for where no form was known: keywords, an imperative."""
AMBIGUOUS = frozenset({"hr", "min"})
LOOSELY = re.compile(r"\b(?:when|once|if|then|already|passed|over|ago|wenn|sobald|quand|lorsque|si|cuando)\b")
ACTIVE = re.compile(
    r"^(?!.*\b(?:by|be|been|differ|compare)\b)(?:why )?"
    r"(?:do|does|did|can|could|may|must|should|will|would) (?!i\b|we\b|you\b)"
    r"|^(?:is|are) (?:an?|all|any|each|every) \w+ an? \w+"
)
READ_MAX = 1000
NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
ROLE_WORDS_MAX = 3
MODALITIES = (
    (
        "must",
        r"must|(?:ha(?:ve|s|d|ving)|needs?) to|needs?|require[sd]?|mandatory|obligatory|obliged|compulsory|necessary",
    ),
    ("must", r"müssen|muss|musst|müsst|doi[st]|doivent|devons|devez|faut|debo|debes?|debemos|deben|tengo que|hay que"),
    ("may", r"may|might|can|could|(?<!dis)allow(?:ed|s)?|permit(?:ted|s)?|possible|able|optional|voluntary"),
    (
        "may",
        r"dürfen|darf|dürft|kann|können|könnt|peu[xt]|peuvent|pouvons|puis|possible|pued[eo]|pueden|podemos|posible",
    ),
    (
        "should",
        r"should|ought|advisable|good idea|(?:is|are) (?:\w+ ){1,3}to be|soll|sollte|sollten|devrai[st]|debería",
    ),
)
"""What must be, what may be and what should be, in the four languages."""
ASKING = re.compile(
    r"^(?:\w+,? )?(?:can|could|would|will|may|might) (?:you|i ask)\b|^(?:kannst|können|könnten) (?:du|sie)\b"
)
TENSES = {
    "en": (r"was|were|did|had", r"is|are|do|does|am|will"),
    "de": (r"war|waren|wurden?|hatten?", r"ist|sind|wird|werden|muss|hat"),
    "fr": (r"était|étaient|avait", r"est|sont|sera|seront"),
    "es": (r"fue|fueron|era|eran", r"es|son|será|serán"),
}
"""Words of the past, and of the present and what is to come."""


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
    told: tuple[tuple[str, frozenset[str]], ...]
    """What must not be told otherwise, but may be left untold: when, and whether something must, may or should be."""
    names: frozenset[str]
    roles: Mapping[str, tuple[str, ...]]
    content: frozenset[str]
    """Stems and numbers, all of them."""
    pairs: frozenset[tuple[str, str]]
    """Words of weight of which one stands right before the other."""
    doer: str
    """Who does what is asked about, where that is told by the order of the words alone."""
    order: tuple[str, ...]
    """The words as they stand, but for articles and auxiliaries, which move when a question becomes a sentence."""
    tense: str = ""


@lru_cache(maxsize=READ_MAX)
def read(question: str) -> Reading:
    known = lexicon()
    text = unicodedata.normalize("NFKC", question).replace("’", "'").strip()
    signs = sorted(SIGN.findall(text))
    quoted = sorted(next(filter(None, found)).casefold() for found in QUOTED.findall(text))
    text = QUOTED.sub(" quotedtext ", text)
    text = LETTERED.sub(r"\1 ", re.sub(r"\bv(?=\d)", "version ", text))
    text = re.sub(r"(?<!^)\bMay\b", "month_may", re.sub(r"\bQ([1-4])\b", r"quarter \1", text))
    text = re.sub(r"\bUS (?=dollar)", "", text)
    text = re.sub(r"\bU\.?S\.?(?:A\.?)?(?!\w)", "usa", text)
    codes = sorted(
        found.rstrip(".:")
        for found in IDENTIFIER.findall(HYPHENATED.sub(" ", text))
        if is_code(found) and found.casefold() not in known.groups
    )
    for code in codes:
        text = text.replace(code, " ")
    names = frozenset(found.casefold().removesuffix("'s") for found in NAME.findall(text) if found != "I")
    exact = {"code": tuple(codes), "quoted": tuple(quoted), "sign": tuple(signs)}
    text = FRONTED.sub(r"\2 \1", GREETING.sub("", text))
    found = put_together(in_small_letters(text), names, exact)
    if found.asked == UNKNOWN and (turned := STATED.sub(r"\2 \1", text)) != text:
        return put_together(in_small_letters(turned), names, exact)
    return found


def put_together(plain: str, names: frozenset[str], exact: Mapping[str, tuple[str, ...]]) -> Reading:
    known = lexicon()
    words, language = in_plain_form(plain)
    asked = frozenset(word for word in words if word.startswith("@")) or UNKNOWN
    content = [word for word in words if not word.startswith("@")]
    skipped = {"must", "should"}.union(
        *(known.marks[kind] for kind in ("negation", "quantifier", "bound", "measure", "person"))
    )
    kept = tuple(
        known.word(word, language, exact=word in names)
        for word in content
        if word not in skipped and not NUMBER.fullmatch(word) and not known.is_light(word, language)
    )
    doer = next((word for word in content if not known.is_light(word, language)), "") if ACTIVE.search(plain) else ""
    return Reading(
        language,
        asked,
        kept,
        marks_in(content, exact, told_in_yes_or_no(plain, asked)),
        told_in(content, plain, asked),
        frozenset(known.meant(name, language) for name in names),
        roles_in(content, known, language),
        frozenset(known.meant(word, language) for word in content),
        pairs_in(content, known, language),
        known.meant(doer, language) if doer else "",
        tuple(word for word in WORD.findall(plain) if not FLOATING.fullmatch(word)),
        tense(plain, language),
    )


def in_plain_form(plain: str) -> tuple[list[str], str]:
    """The words of the question in its plainest form, and its language."""
    known = lexicon()
    words = with_units([numbered(word) for word in WORD.findall(plain)], known)
    language = known.language(words)
    if language == "en":
        words = known.joined(words)
    else:
        words = [word.replace(".", "") if THOUSANDS.fullmatch(word) else word for word in words]
    return WORD.findall(known.rewritten(" ".join(words), language)), language


def marks_in(
    content: list[str], exact: Mapping[str, tuple[str, ...]], modality: tuple[str, ...]
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    numbers = tuple(sorted(word for word in content if NUMBER.fullmatch(word)))
    counted = {kind: told(kind, content) for kind in ("negation", "quantifier", "bound", "person")}
    return tuple(sorted({**exact, **counted, "number": numbers, "modality": modality}.items()))


def told_in(content: list[str], plain: str, asked: frozenset[str]) -> tuple[tuple[str, frozenset[str]], ...]:
    """How something can be done is how it has to be done, so modality does not tell then."""
    told_so = frozenset[str]() if "@how" in asked else modality(plain) - {"should"}
    return ("span", span(plain, content)), ("measure", frozenset(told("measure", content))), ("modality", told_so)


def told(kind: str, words: list[str]) -> tuple[str, ...]:
    """The marks of a kind, sorted."""
    meaning = lexicon().marks[kind]
    return tuple(sorted(meaning[word] for word in words if word in meaning))


def span(plain: str, words: list[str]) -> frozenset[str]:
    """Before, during, after what. Untold it may be any of them, but after only beside a word like `once`."""
    spans = frozenset(lexicon().marks["span"].values())
    return frozenset(told("span", words)) or (spans if LOOSELY.search(plain) else spans - {"after"})


def roles_in(words: list[str], known: Lexicon, language: str) -> Mapping[str, tuple[str, ...]]:
    """The words that count behind each number and each small word that gives them a part, up to the next such."""
    found: dict[str, tuple[str, ...]] = {}
    role = ""
    every = known.marks["quantifier"]
    for word in words:
        word = ALIKE.get(word, "all" if every.get(word) == "all" else word)
        filling = not ROLES.fullmatch(word) and not known.is_light(word, language)
        if role and role != word and filling and len(found.get(role, ())) < (1 if role == "all" else ROLE_WORDS_MAX):
            found[role] = (*found.get(role, ()), known.meant(word, language))
        within = word == "of" and role in ("to", "from")  # a list of strings to a list of numbers
        if (ROLES.fullmatch(word) or NUMBER.fullmatch(word)) and not within:
            role = word
    return found


def pairs_in(words: list[str], known: Lexicon, language: str) -> frozenset[tuple[str, str]]:
    return frozenset(
        (known.meant(one, language), known.meant(other, language))
        for one, other in itertools.pairwise(words)
        if not known.is_light(one, language) and not known.is_light(other, language)
    )


@cache
def modal_patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple((kind, re.compile(rf"\b(?:{words})\b")) for kind, words in MODALITIES)


def modality(plain: str) -> frozenset[str]:
    text = ASKING.sub("", plain)
    return frozenset(kind for kind, pattern in modal_patterns() if pattern.search(text))


def told_in_yes_or_no(plain: str, asked: frozenset[str]) -> tuple[str, ...]:
    """Who asks whether something must or should be, asks otherwise than who asks whether it is."""
    return tuple(sorted(modality(plain) - {"may"})) if "@if" in asked else ()


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
    """The words with units in one form. A letter alone, and what has other meanings, is one only behind a number."""
    return [
        known.units.get(word, word)
        if words[place - 1][:1].isdigit() or not word.isalpha() or (len(word) > 1 and word not in AMBIGUOUS)
        else word
        for place, word in enumerate(words)
    ]


def numbered(word: str) -> str:
    if found := ORDINAL.fullmatch(word):
        return found.group(1)
    return lexicon().marks["number"].get(word, word)


def tense(plain: str, language: str) -> str:
    """Of the first word that tells it; empty when none does."""
    past, present = TENSES[language]
    for word in plain.split():
        if re.fullmatch(past, word):
            return "past"
        if re.fullmatch(present, word):
            return "present"
    return ""
