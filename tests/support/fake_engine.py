"""Stands in for `python -I -m engine` in tests of the command line: `python fake_engine.py SCRIPT VERB`.

SCRIPT is a JSON file: verb -> {"lines": [raw lines], "exit": status, "signal": n, "stderr": text}. Each request is
appended to SCRIPT.requests.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main(script: Path, verb: str) -> None:
    with script.with_suffix(".requests").open("a") as file:
        file.write(json.dumps({"verb": verb, "request": json.loads(sys.stdin.readline())}) + "\n")
    part = json.loads(script.read_text())[verb]
    print(part.get("stderr", ""), end="", file=sys.stderr, flush=True)
    for line in part.get("lines", []):
        print(line if isinstance(line, str) else json.dumps(line), flush=True)
    if "signal" in part:
        os.kill(os.getpid(), part["signal"])
    sys.exit(part.get("exit", 0))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
