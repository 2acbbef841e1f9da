"""The host without a terminal, as `dcoder up --detach` starts it."""

from __future__ import annotations

import sys

from shared.cli.failures import Failed
from shared.cli.lifecycle import host
from shared.host.home import find_home
from shared.host.run import record_progress


def main() -> int:
    """Run until SIGTERM; a failed start is the last event of the progress file."""
    home = find_home()
    report = record_progress(home)
    try:
        host(home, report)
    except Failed as failure:
        report("gave_up", {"what": failure.what, "why": failure.why, "fix": failure.fix})
        return failure.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
