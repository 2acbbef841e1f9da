"""Functions that serve one tenant alone, in a process of their own: `python -m shared.host.own`."""

from __future__ import annotations

from shared.host.functions import run_until_stopped

if __name__ == "__main__":
    run_until_stopped()
