"""A conversation's messages, shortened.

What becomes of a text depends on the texts before it and on itself, never on what follows: a longer conversation begins
with the same bytes, which is what providers' caches of prompts ask for. The one exception is putting old results aside,
and that moves on in steps (`put_aside`).
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from shared.compression import lines, passages, tables
from shared.compression.code import FENCE, is_code, outside_fences
from shared.compression.estimate import tokens_in
from shared.compression.marks import OPENING, mark
from shared.compression.modes import Mode, Original
from shared.compression.pieces import Json, Path, Piece, pieces_of, replaced

RETRIEVAL_TOOL = "retrieve_original"
LOOKED_AT_CHARS_LEAST, LOOKED_AT_CHARS_MOST = 200, 256 * 1024
SAVED_BYTES_LEAST = 48
"""About twelve tokens: worth far more than the processor time that finding them takes, see decision 29."""
BLOCK_CHARS_LEAST = 200
BEGINNING_CHARS = 40
ASIDE_BYTES_LEAST = 2048
ASIDE_STEP_BYTES = 16 * 1024
FRESH_ROUNDS = 3
"""Results that the model has answered fewer times than this stay where they are."""


@dataclass(frozen=True)
class Compressed:
    """The messages, and how many bytes of text they had and have. `messages` is the argument itself when nothing
    changed."""

    messages: Sequence[Json] = field(repr=False)
    original_bytes: int
    sent_bytes: int
    saved_tokens: int
    modes: frozenset[Mode]
    """Those that saved something."""
    originals: Sequence[Original] = ()


def compressed(
    messages: Sequence[Json], modes: frozenset[Mode], original_id: Callable[[str], str] = lambda text: ""
) -> Compressed:
    """The messages of a request in OpenAI's or Anthropic's dialect, shortened. `original_id`: the name under which a
    text can be had again, the same for the same text; needed for `reversible`."""
    pieces = list(pieces_of(messages))
    words = questions(pieces)
    seen = Blocks()
    shorter: dict[Path, tuple[Piece, str, Mode]] = {}
    for piece in pieces:
        seen.result += piece.kind == "result"
        if eligible(piece):
            shorter[piece.path] = (piece, *shortened(piece, words, modes, seen))
    originals: dict[str, Original] = {}
    for piece in aside(pieces) if "reversible" in modes else ():
        kept = Original(original_id(piece.text), piece.text)
        originals[kept.id] = kept
        shorter[piece.path] = (piece, stub(piece, kept.id), "reversible")
    return told(messages, pieces, shorter, list(originals.values()))


def told(
    messages: Sequence[Json],
    pieces: Sequence[Piece],
    shorter: Mapping[Path, tuple[Piece, str, Mode]],
    originals: Sequence[Original],
) -> Compressed:
    changes = {path: text for path, (piece, text, _) in shorter.items() if text is not piece.text}
    before = sum(size(piece.text) for piece in pieces)
    saved = sum(size(piece.text) - size(text) for piece, text, _ in shorter.values())
    tokens = sum(tokens_in(shorter[path][0].text) - tokens_in(text) for path, text in changes.items())
    used = frozenset(mode for path, (_, _, mode) in shorter.items() if path in changes)
    return Compressed(replaced(messages, changes), before, before - saved, tokens, used, originals)


def eligible(piece: Piece) -> bool:
    """Short texts are not worth a look, and huge ones take too long. What the model asked to have again, it gets as it
    was."""
    fits = LOOKED_AT_CHARS_LEAST <= len(piece.text) <= LOOKED_AT_CHARS_MOST
    return fits and OPENING not in piece.text and piece.tool != RETRIEVAL_TOOL


def shortened(piece: Piece, words: Mapping[Path, str], modes: frozenset[Mode], seen: Blocks) -> tuple[str, Mode]:
    """The text and by what it became so; the text itself where too little would be saved."""
    if "passages" in modes and passages.has_passages(piece.text):
        return worthwhile(piece.text, passages.extracted(piece.text, words.get(piece.path, ""))), "passages"
    if "lossless" in modes and piece.kind == "result":
        return lossless(piece.text, seen), "lossless"
    return piece.text, "lossless"


def worthwhile(text: str, shorter: str) -> str:
    return shorter if size(text) - size(shorter) >= SAVED_BYTES_LEAST else text


def lossless(text: str, seen: Blocks) -> str:
    """What a tool returned, in fewer bytes. Code stays as it is."""
    as_json = tables.shortened(text)
    if as_json is not None:
        return seen.referred(worthwhile(text, as_json))
    if is_code(text):
        return text
    if FENCE.search(text):
        return worthwhile(text, outside_fences(text, lines.squeezed))
    return seen.referred(worthwhile(text, lines.squeezed(text)))


class Blocks:
    """The blocks of results so far: what comes again is told by a reference to where it stood first."""

    def __init__(self) -> None:
        self.result = 0
        """The number of the result that is looked at, the first is 1."""
        self._seen: dict[bytes, tuple[int, int]] = {}

    def referred(self, text: str) -> str:
        """The text with its blocks, which empty lines part, by reference where they were there before."""
        blocks = text.split("\n\n")
        return "\n\n".join(self._block(number, block) for number, block in enumerate(blocks, 1))

    def _block(self, number: int, block: str) -> str:
        if len(block) < BLOCK_CHARS_LEAST:
            return block
        name = hashlib.sha256(block.encode("utf-8", "surrogatepass")).digest()
        first = self._seen.setdefault(name, (self.result, number))
        return block if first == (self.result, number) else reference(*first, block)


def reference(result: int, number: int, block: str) -> str:
    return mark(f"block {number} of result {result} again, which begins {beginning(block)!r}")


def beginning(text: str) -> str:
    return " ".join(text.removeprefix(tables.NOTE)[:BEGINNING_CHARS].split())


def questions(pieces: Sequence[Piece]) -> Mapping[Path, str]:
    """What each text's passages were retrieved for: what the user said in the same message, and for results in the
    last message of the user's before it."""
    said: defaultdict[int | str, list[str]] = defaultdict(list)
    for piece in pieces:
        if piece.kind == "user":
            said[piece.path[0]].append(passages.without_passages(piece.text))
    found: dict[Path, str] = {}
    latest = ""
    for piece in pieces:
        own = " ".join(said.get(piece.path[0], ())).strip()
        latest = own or latest
        found[piece.path] = own if piece.kind == "user" else latest
    return found


def aside(pieces: Sequence[Piece]) -> list[Piece]:
    """The results that are put aside: old ones, long enough, never what was had again."""
    results = [one for one in pieces if one.kind == "result" and one.tool != RETRIEVAL_TOOL]
    long = [one for one in results if size(one.text) >= ASIDE_BYTES_LEAST]
    rounds = max((one.round for one in pieces), default=0)
    before = put_aside([(one.round, size(one.text)) for one in long], rounds)
    return [one for one in long if one.round <= before]


def put_aside(sizes: Sequence[tuple[int, int]], rounds: int) -> int:
    """Up to which round results are put aside. `sizes`: the round and bytes of each.

    It moves on when enough bytes have become old, so that a conversation changes in its middle, and its provider's
    cache is missed, once for each 16 KiB that are saved from then on.
    """
    upto, waiting = 0, 0
    for place, (of_round, bytes_) in enumerate(sizes):
        if of_round > rounds - FRESH_ROUNDS:
            break
        waiting += bytes_
        last_of_round = place + 1 == len(sizes) or sizes[place + 1][0] != of_round
        if last_of_round and waiting >= ASIDE_STEP_BYTES:
            upto, waiting = of_round, 0
    return upto


def stub(piece: Piece, original: str) -> str:
    what = f"{size(piece.text)} bytes put aside, which begin {beginning(piece.text)!r}"
    return mark(f"{what}; {RETRIEVAL_TOOL}(id={original!r}) gives them")


def size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
