"""GGUF by llama.cpp's own converter, where the user has it: it knows every architecture, and changes with them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from engine.contract import calls, environment
from engine.contract.safe import redact

SCRIPT = "convert_hf_to_gguf.py"
HELP = f"Clone llama.cpp, let LLAMA_CPP name its folder, and run `molting merge` again; or run its {SCRIPT} by hand."

Tell = Callable[[calls.Line], None]


def converter() -> Path | None:
    """The converter in $LLAMA_CPP, else on PATH."""
    folder = os.environ.get("LLAMA_CPP")
    if folder and (Path(folder).expanduser() / SCRIPT).is_file():
        return Path(folder).expanduser() / SCRIPT
    found = shutil.which(SCRIPT)
    return Path(found) if found else None


def convert(folder: Path, name: str, tell: Tell) -> tuple[str, str]:
    """Convert the model in `folder` beside itself, in 16 bits; the file's name, or "" and a sentence why not."""
    script = converter()
    if script is None:
        where = f"LLAMA_CPP ({os.environ['LLAMA_CPP']}) has none" if os.environ.get("LLAMA_CPP") else "none on PATH"
        return "", f"No GGUF file was made: llama.cpp's {SCRIPT} is not here ({where}). {HELP}"
    tell(calls.Progress(phase="converting to GGUF"))
    file = folder / f"{name}.gguf"
    # By our Python, which has most of what it imports; the rest lies beside it, or is named below.
    command = [sys.executable, str(script), str(folder), "--outfile", str(file), "--outtype", "auto"]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment.clean_env()
    )
    if done.returncode == 0 and _is_gguf(file):
        return file.name, ""
    file.unlink(missing_ok=True)
    lines = [line.strip() for line in done.stdout.decode("utf-8", "replace").splitlines() if line.strip()]
    said = redact(lines[-1])[:300].rstrip(".") if lines else "it said nothing"
    missing = re.search(r"No module named '([\w-]+)", said)
    help = f"`{sys.executable} -m pip install {missing[1]}`, then merge again." if missing else HELP
    return "", f"No GGUF file was made: {script} ended with status {done.returncode}: {said}. {help}"


def _is_gguf(file: Path) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as opened:
        return opened.read(4) == b"GGUF"
