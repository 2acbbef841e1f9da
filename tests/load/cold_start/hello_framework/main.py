"""The bare function beside ours, under functions-framework. It answers with its own moments."""

import json
import os
import time
from pathlib import Path

LOADED = time.time()


def main(request: object) -> str:
    called = time.time()
    fields = Path("/proc/1/stat").read_text().rpartition(")")[2].split()
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return json.dumps({"process": time.time() - age_s, "built": LOADED, "called": called})
