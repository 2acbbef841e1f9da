"""What is looked for. Each pattern is bounded: no match is longer than `MATCH_CHARS_MAX`, none depends on more than one
character before or after it, and no two of its repetitions can share text, so matching takes linear time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

MATCH_CHARS_MAX = 1000
KINDS = ("secret", "personal_data", "prompt_injection", "jailbreak", "custom")
Judge = Callable[[str], int]
"""How much of a match counts, from its start, in characters; 0 when it is no finding after all."""


def all_of_it(match: str) -> int:
    return len(match)


@dataclass(frozen=True)
class Rule:
    """A named pattern. `needs`: a match holds this text, so that most texts are passed over without matching."""

    name: str
    kind: str
    pattern: re.Pattern[str]
    needs: str = ""
    judge: Judge = all_of_it


def phrases(name: str, wanted: Iterable[str]) -> Rule:
    """A tenant's own rule: any of these texts, in upper or lower case. They are text, never patterns."""
    longest_first = sorted(wanted, key=len, reverse=True)
    return Rule(name, "custom", re.compile("|".join(map(re.escape, longest_first)), re.IGNORECASE))


def luhn(match: str) -> int:
    """ISO/IEC 7812-1: a payment card's number carries its check digit, and begins with 3, 4, 5 or 6."""
    digits = [int(one) for one in match if one.isdigit()]
    doubled = [sum(divmod(2 * one, 10)) for one in digits[-2::-2]]
    is_card = digits[0] in (3, 4, 5, 6) and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
    return len(match) if is_card else 0


IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AT": 20, "BE": 16, "BG": 22, "CH": 21, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "EE": 20,
    "ES": 24, "FI": 18, "FR": 27, "GB": 22, "GI": 23, "GR": 27, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IS": 26,
    "IT": 27, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "MC": 27, "MT": 31, "NL": 18, "NO": 15, "PL": 28, "PT": 25,
    "RO": 24, "SA": 24, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "TR": 26,
}  # fmt: skip


def iban(match: str) -> int:
    """ISO 13616: the country's length, and the check digits modulo 97. What follows the number is not part of it."""
    length = IBAN_LENGTHS.get(match[:2], 0)
    places = [place for place, one in enumerate(match) if one != " "][:length]
    if not length or len(places) < length:
        return 0
    compact = "".join(match[place] for place in places)
    number = int("".join(str(int(one, 36)) for one in compact[4:] + compact[:4]))
    return places[-1] + 1 if number % 97 == 1 else 0


def rule(name: str, kind: str, pattern: str, *, needs: str = "", judge: Judge = all_of_it) -> Rule:
    return Rule(name, kind, re.compile(pattern, re.ASCII), needs, judge)


def spoken(name: str, kind: str, pattern: str) -> Rule:
    """A turn of phrase: blanks stand for any white space, case does not matter."""
    return Rule(name, kind, re.compile(pattern.replace(" ", r"\s{1,4}"), re.IGNORECASE))


FILLER = r"(?:(?:all|any|the|your|my|of|these|those|previous|prior|above|preceding|earlier|foregoing) ){1,5}"
ADORNED = r"(?:(?:me|us|the|your|all|of|full|entire|exact|original|secret) ){0,5}"

BUILT_IN: tuple[Rule, ...] = (
    rule("aws_access_key", "secret", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    rule("github_token", "secret", r"\b(?:gh[pousr]_[A-Za-z0-9]{36,250}|github_pat_[A-Za-z0-9_]{22,250})\b", needs="_"),
    rule("gitlab_token", "secret", r"\bglpat-[A-Za-z0-9_-]{20,64}", needs="glpat-"),
    rule("slack_token", "secret", r"\bxox[abeoprs]-[A-Za-z0-9-]{10,200}", needs="xox"),
    rule("model_provider_key", "secret", r"\b(?:sk-[A-Za-z0-9_-]{20,250}|gsk_[A-Za-z0-9]{40,100})", needs="sk"),
    rule("google_api_key", "secret", r"\bAIza[0-9A-Za-z_-]{35}", needs="AIza"),
    rule("stripe_key", "secret", r"\b[rs]k_(?:live|test)_[0-9A-Za-z]{16,200}", needs="k_"),
    rule("virtual_key", "secret", r"\bdck_[a-z0-9]{12}_[a-z0-9]{40,80}\b", needs="dck_"),
    rule("private_key", "secret", r"-----BEGIN (?:[A-Z]{2,10} ){0,3}PRIVATE KEY-----", needs="PRIVATE KEY"),
    rule(
        "json_web_token",
        "secret",
        r"\beyJ[A-Za-z0-9_-]{8,300}\.eyJ[A-Za-z0-9_-]{8,400}\.[A-Za-z0-9_-]{8,200}",
        needs="eyJ",
    ),
    rule("url_password", "secret", r"\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@]{1,64}:[^\s/:@]{1,128}@", needs="://"),
    rule(
        "email_address",
        "personal_data",
        r"\b[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}\b",
        needs="@",
    ),
    rule("phone_number", "personal_data", r"(?<![\w+])\+[1-9](?:[ ().-]{0,2}\d){7,14}(?!\d)", needs="+"),
    rule("payment_card", "personal_data", r"(?<!\d)\d(?:[ -]?\d){12,18}(?!\d)", judge=luhn),
    rule(
        "iban", "personal_data", r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9])", judge=iban
    ),
    rule(
        "us_social_security_number",
        "personal_data",
        r"(?<!\d)(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?!\d)",
        needs="-",
    ),
    spoken(
        "instructions_overridden",
        "prompt_injection",
        rf"\b(?:ignore|disregard|forget|override) {FILLER}(?:instruction|prompt|rule|direction|guideline)s?\b",
    ),
    spoken(
        "system_prompt_asked_for",
        "prompt_injection",
        rf"\b(?:reveal|print|show|repeat|output|leak) {ADORNED}(?:system|developer|hidden|initial) "
        r"(?:prompt|message|instruction)s?\b",
    ),
    spoken("chat_markup", "prompt_injection", r"<\|(?:im_start|im_end|system|assistant)\|>|<</?SYS>>|\[/?INST\]"),
    spoken("do_anything_now", "jailbreak", r"\bdo anything now\b|\byou are (?:now )?DAN\b"),
    spoken(
        "restrictions_lifted",
        "jailbreak",
        r"\b(?:you are (?:now )?an? (?:unrestricted|unfiltered|uncensored|jailbroken)|(?:enable|enter|activate) "
        r"(?:developer|god|jailbreak) mode|without any (?:restrictions|filters|limitations|censorship))\b",
    ),
)
