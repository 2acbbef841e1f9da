"""How often the answerer is confident about what it cannot know, beside how often it answers what it can.

    python -m tests.load.abstention [folder]

Questions of one judged collection asked of the other are unanswerable by construction. The thresholds in
`functions.knowledge.answers.support` were chosen on the odd questions; the even ones stand beside the whole.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from functions.knowledge.answers.support import answerable
from shared.embeddings import Embeddings
from shared.knowledge import Passage, query_of, search
from shared.knowledge.index import as_text
from shared.postgres import TenantDatabase
from tests.load.judged import Collection, add_document, code, cranfield, tenant_database
from tests.load.retrieval import DATA

PASSAGES = 8


async def asked(database: TenantDatabase, embeddings: Embeddings, collection: Collection) -> list[Sequence[Passage]]:
    """What search finds for each of the collection's questions in whatever the database holds."""
    vectors = await embeddings.embed([question.text for question in collection.questions])
    return [
        (await search(database, query_of(question.text, as_text(vector.tolist())), limit=PASSAGES)).passages
        for question, vector in zip(collection.questions, vectors, strict=True)
    ]


def share(found: Sequence[Sequence[Passage]]) -> str:
    decided = [answerable(passages) for passages in found]
    whole, even = (100 * sum(part) / len(part) for part in (decided, decided[1::2]))
    return f"{whole:5.1f} %   even {even:5.1f} %"


async def measure(folder: Path) -> None:
    embeddings = Embeddings(threads=2)
    collections = {"cranfield": cranfield(folder), "code": code(folder)}
    for name, held in collections.items():
        async with tenant_database() as database:
            for document, chunks in held.documents.items():
                await add_document(database, embeddings, document, chunks)
            for asker, collection in collections.items():
                kind = "answered        " if asker == name else "confident, wrong"
                bar = "" if asker == name else "   bar 2 %"
                found = await asked(database, embeddings, collection)
                print(f"{asker:9s} asked of {name:9s}  {kind} {share(found)}{bar}")


def main() -> None:
    folder = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("DCODER_RETRIEVAL_DATA", str(DATA))
    asyncio.run(measure(Path(folder)))


if __name__ == "__main__":
    main()
