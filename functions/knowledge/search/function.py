"""Search: the passages of a tenant's documents that best answer a question."""

from __future__ import annotations

from pydantic import BaseModel, Field

from shared.embeddings import Embeddings
from shared.errors import Forbidden
from shared.function import Function, Scale
from shared.function.schema import Body
from shared.identity import Caller
from shared.knowledge import query_of
from shared.knowledge import search as search_index
from shared.knowledge.vectors import question_vector
from shared.objects import NAME_PART
from shared.postgres import TenantDatabase
from shared.redis import Cache

search = Function(scale=Scale(max=20, concurrency=40))


class SearchQuery(Body):
    """`prefix` limits the search to documents whose name begins so."""

    query: str = Field(min_length=1, max_length=4000)
    limit: int = Field(default=10, ge=1, le=50)
    prefix: str = Field(default="", max_length=500, pattern=NAME_PART)
    explain: bool = False


class Hit(BaseModel):
    """A passage: `start` and `end` are character offsets into the document's stored text."""

    id: str
    document: str
    page: int | None
    heading: str
    start: int
    end: int
    text: str
    score: float
    legs: dict[str, float] | None = None


class SearchResults(BaseModel):
    """`path` says how vectors were compared: `exact` looks at every one."""

    results: list[Hit]
    path: str


class EmbeddingRequest(Body):
    input: list[str] = Field(min_length=1, max_length=256)


class EmbeddingResults(BaseModel):
    model: str
    vectors: list[list[float]]
    tokens: int


@search.post("/v1/knowledge/search", permission="documents:read")
async def search_documents(
    body: SearchQuery, tenant: TenantDatabase, embeddings: Embeddings, cache: Cache
) -> SearchResults:
    """Return the passages that best answer the query."""
    vector = await question_vector(body.query, embeddings, cache)
    found = await search_index(tenant, query_of(body.query, vector), limit=body.limit, prefix=body.prefix)
    hits = [
        Hit(
            id=one.id,
            document=one.document,
            page=one.page,
            heading=one.heading,
            start=one.start,
            end=one.end,
            text=one.text,
            score=round(one.score, 6),
            legs={name: round(value, 6) for name, value in one.legs.items()} if body.explain else None,
        )
        for one in found.passages
    ]
    return SearchResults(results=hits, path=found.path)


@search.post("/v1/knowledge/embeddings", permission="models:use")
async def embed_texts(body: EmbeddingRequest, caller: Caller, embeddings: Embeddings) -> EmbeddingResults:
    """Return a vector of length 1 for each text. For functions: keys ask the gateway, which scopes and counts."""
    if caller.kind != "function":
        raise Forbidden("ask the LLM gateway's /v1/embeddings: it checks the key's models and counts what is used")
    vectors = await embeddings.embed(body.input)
    tokens = sum(embeddings.count_tokens(text) for text in body.input)
    return EmbeddingResults(model=embeddings.model, vectors=vectors.tolist(), tokens=tokens)
