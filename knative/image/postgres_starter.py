#!/usr/local/bin/python3 -I
"""What `knative/base` uses of the official image's entrypoint: a data directory made once, then the server.

It is in the image as `docker-entrypoint.sh`, and reads `PGDATA`, `POSTGRES_PASSWORD_FILE` and `POSTGRES_INITDB_ARGS`.
"""

import os
import shlex
import shutil
import subprocess
import sys

ACCESS = "host all all all scram-sha-256\n"


def initialise(data: str) -> None:
    """A directory that appears whole or not at all."""
    fresh = data + ".new"
    shutil.rmtree(fresh, ignore_errors=True)
    options = ["--username=postgres", f"--pwfile={os.environ['POSTGRES_PASSWORD_FILE']}", "--auth=scram-sha-256"]
    more = shlex.split(os.environ.get("POSTGRES_INITDB_ARGS", ""))
    subprocess.run(["initdb", f"--pgdata={fresh}", *options, *more], check=True)  # noqa: S603, S607  of this image
    with open(os.path.join(fresh, "pg_hba.conf"), "a") as access:
        access.write(ACCESS)
    os.rename(fresh, data)


if __name__ == "__main__":
    if not os.path.exists(os.path.join(os.environ["PGDATA"], "PG_VERSION")):
        initialise(os.environ["PGDATA"])
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606  what the manifest says
