"""The retrieval index of a tenant: chunks, their vectors and their terms."""

from shared.knowledge.chunk import Chunk
from shared.knowledge.index import IndexedChunk, delete_document_chunks, indexed, replace_chunks
from shared.knowledge.search import Found, Passage, Query, query_of, search

__all__ = [
    "Chunk",
    "Found",
    "IndexedChunk",
    "Passage",
    "Query",
    "delete_document_chunks",
    "indexed",
    "query_of",
    "replace_chunks",
    "search",
]
