"""A function before it is deployed, served by itself: `python -m shared.host.trial FOLDER PORT`.

It is packed and read back first, so what runs here is what would be deployed. Any key of any tenant may call it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from shared.bundles.archive import files_of, packed, unpacked
from shared.bundles.loading import declared, imported
from shared.errors import Problem
from shared.function.app import build
from shared.host.ports import LOOPBACK
from shared.settings import Settings


def main(folder: Path, port: int) -> None:
    import uvicorn

    from shared.function.protocol import BoundedProtocol

    try:
        deployable = imported(folder.name, unpacked(packed(files_of(folder))))
        declared(folder.name, deployable)
    except Problem as refused:
        sys.exit(f"{folder} cannot be run: {refused.detail}")
    app = build([deployable], Settings.from_environment())
    uvicorn.run(app, host=LOOPBACK, port=port, http=BoundedProtocol, log_level="warning", server_header=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), int(sys.argv[2]))
