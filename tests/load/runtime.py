"""Requests per second of the runtime beside bare FastAPI and bare Starlette, same server, same run, interleaved.

    python -m tests.load.runtime [--rounds 5] [--seconds 3]

Each contender is one uvicorn process on its own core's worth of time; the load comes from this process over
loopback with keep-alive connections. Ours authenticates a virtual key, checks its permission and, for the
changing call, commits an audit record.
"""
