"""The process of one container: `DCODER_FUNCTION`'s functions on `PORT`, until SIGTERM.

The same app that functions-framework serves through `functions/entry.py`, on the same server (uvicorn), without
gunicorn, Flask and a second process before it: less to import, and the app's own lifespan closes what it opened.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from types import FrameType

APP = "functions.entry"
"""By name only: shared never imports functions."""
PORT_DEFAULT = 8080


def main() -> None:
    # The first process of a container ignores SIGTERM until it says otherwise, also while it imports.
    signal.signal(signal.SIGTERM, leave)
    gc.disable()  # nothing that imports make is garbage
    from shared.errors import Problem
    from shared.function.startup import startup

    startup.reached("python")
    try:
        serve(port_of(os.environ.get("PORT", str(PORT_DEFAULT))))
    except Problem as refused:
        sys.exit(f"the functions cannot start: {refused.detail}")


def leave(number: int, frame: FrameType | None) -> None:
    """End well: whatever was in flight has ended, or nothing had begun."""
    raise SystemExit(0)


def port_of(text: str) -> int:
    from shared.errors import Fault

    if not text.isdigit() or not 0 < int(text) < 65536:
        raise Fault(f"PORT={text!r} is not a port from 1 to 65535")
    return int(text)


def serve(port: int) -> None:
    from importlib import import_module

    import uvicorn

    from shared.function.protocol import BoundedProtocol
    from shared.function.startup import defer_models, startup, watched

    defer_models()
    app = watched(import_module(APP).app)
    startup.reached("built")
    gc.freeze()
    gc.enable()
    # No limit on the shutdown: a call may take as long as its function's timeout, and so is the pod's grace period.
    uvicorn.run(
        app,
        host="0.0.0.0",  # noqa: S104  a pod's address is known to the cluster only
        port=port,
        http=BoundedProtocol,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nobody asks where a call came from
    )


if __name__ == "__main__":
    main()
