"""Sentence embeddings on the machine itself: all-MiniLM-L6-v2 on onnxruntime, never a download."""

from shared.embeddings.encoder import DIMENSIONS, MODEL, Embeddings

__all__ = ["DIMENSIONS", "MODEL", "Embeddings"]
