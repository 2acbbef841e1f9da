"""What a call may take at most, before anybody has counted its tokens.

A token of a byte-level tokenizer has at least one byte, so a text has no more tokens than bytes. An image costs by its
size, which nobody knows before it is fetched: it counts as the dearest that a model of the table bills.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from urllib.parse import urlsplit

from functions.gateway.llm.bodies import Wanted, whole
from functions.gateway.llm.credentials import Provider
from shared.errors import Malformed
from shared.usage import Tokens

OUTPUT_MOST = 16_384
"""What is reserved for an answer whose length nobody limits; under a hard limit the provider is told so."""
LEAST_OUTPUT = 256
"""An answer that would be cut shorter is not worth its input."""
IMAGE_TOKENS_MOST = 50_000
CHOICES_MAX = 128
LENGTH_MAX = 2**24
INLINE = b"data:"
MARKS = (b"image", b'"file"', b'"document"', b"input_audio", INLINE)
ATTACHED = frozenset({"image_url", "input_image", "file", "input_audio", "image", "document"})
"""Types of what is attached to a message, in OpenAI's and Anthropic's formats."""
NEW_NAME = ("api.openai.com", "api.groq.com")
"""Hosts that take `max_completion_tokens`; models that reason take nothing else there. Others know `max_tokens`."""


@dataclass(frozen=True)
class Wish:
    """The most that a call may take, and whether the caller has limited the answer's length."""

    most: Tokens
    stated: bool


def wish_of(wanted: Wanted) -> Wish:
    """Raises `Malformed` for a length or a number of answers that cannot be one."""
    length, choices = output_asked(wanted), choices_of(wanted)
    each = OUTPUT_MOST if length is None else length
    return Wish(Tokens(input=input_most(wanted), output=each * choices), stated=length is not None)


def output_asked(wanted: Wanted) -> int | None:
    """The answer's length as the caller limits it. Of two limits the lower one holds."""
    told = [checked(wanted, name, LENGTH_MAX) for name in ("max_completion_tokens", "max_tokens")]
    return min((length for length in told if length is not None), default=None)


def choices_of(wanted: Wanted) -> int:
    return checked(wanted, "n", CHOICES_MAX) or 1


def checked(wanted: Wanted, name: str, most: int) -> int | None:
    value = wanted.content.get(name)
    if value is None:
        return None
    count = whole(value)
    if count is None or not 1 <= count <= most:
        raise Malformed(f"{name!r} is a whole number from 1 to {most}", param=name)
    return count


def input_most(wanted: Wanted) -> int:
    """No provider can count more input tokens than this."""
    if not any(mark in wanted.raw for mark in MARKS):
        return len(wanted.raw)
    texts, images = parts(wanted.content)
    return texts + images * IMAGE_TOKENS_MOST


def parts(value: object) -> tuple[int, int]:
    """The bytes of what is text in a JSON value, and how many images and files are in it."""
    if isinstance(value, dict):
        inside = [parts(member) for member in value.values()]
        names = sum(len(str(name).encode()) + 4 for name in value)
        here = int(value.get("type") in ATTACHED)
        return names + sum(texts for texts, _ in inside), here + sum(images for _, images in inside)
    if isinstance(value, list):
        inside = [parts(member) for member in value]
        return len(value) + sum(texts for texts, _ in inside), sum(images for _, images in inside)
    if isinstance(value, str) and value.startswith(INLINE.decode()):
        return 0, 0
    return len(json.dumps(value).encode()), 0


def output_limit(provider: Provider, most: int) -> dict[str, int]:
    """The member that tells this provider how long an answer may be."""
    new = urlsplit(provider.base_url).hostname in NEW_NAME
    return {"max_completion_tokens" if new else "max_tokens": most}
