"""The LLM gateway in a process of its own: `python -m shared.host.gateway`."""

from __future__ import annotations

from shared.host.functions import run_until_stopped

if __name__ == "__main__":
    run_until_stopped()
