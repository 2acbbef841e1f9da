"""The static hello world as an OCI archive, for the cluster's nodes. It needs Go.

python -m tests.load.cold_start.go_image hello-go.tar [--tag dev.local/hello-go:1]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
from pathlib import Path

from knative.image import layout
from knative.image.build import architecture
from knative.image.contents import IDENTITY

SOURCE = Path(__file__).parent / "hello_go"
TAG = "dev.local/hello-go:1"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--tag", default=TAG)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tree, layer = Path(folder, "tree"), Path(folder, "hello.tar")
        build = ["go", "build", "-trimpath", "-ldflags=-s -w", "-o", str(tree / "program"), "."]
        subprocess.run(build, cwd=SOURCE, env={**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local"}, check=True)
        config = {"User": IDENTITY, "Entrypoint": ["/program"]}
        image = layout.Image((layout.pack("hello", tree, layer),), architecture(), config)
        layout.write(image, wanted.tag, wanted.archive)
    print(f"{wanted.archive}: {wanted.tag}")


if __name__ == "__main__":
    main()
