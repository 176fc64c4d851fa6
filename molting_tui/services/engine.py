"""Calls the engine: `python -I -m engine VERB`, a request on stdin, JSON lines on stdout."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TypeVar, Union

import msgspec

from engine.contract import calls
from engine.contract.errors import MoltingError

from .. import state_files

T = TypeVar("T")
Heard = Union[calls.Progress, calls.Note, calls.Found]
# Isolated: nothing of the user's current folder or PYTHONPATH is imported.
ENGINE = (sys.executable, "-I", "-m", "engine")


def call(
    verb: str,
    request: msgspec.Struct,
    result: type[T],
    on_line: Callable[[Heard], None] = lambda heard: None,
    *,
    on_start: Callable[[subprocess.Popen[bytes]], None] = lambda process: None,
    argv: Sequence[str] | None = None,
) -> T:
    """Run one verb of the engine and return its result, decoded as `result`.

    `on_line` hears Progress and Note on the way; `on_start` is given the process, to end it early. Raises
    MoltingError with the engine's own sentence for a Failure, and one naming the exit status and the log of its
    stderr when it ended without an answer.
    """
    log = state_files.new_log(f"engine-{verb}")
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [*(argv or ENGINE), verb], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        )
        try:
            on_start(process)
            answer = _converse(process, msgspec.json.encode(request), on_line, errors)
        except BaseException:
            process.terminate()
            raise
        finally:
            process.wait()
    if isinstance(answer, calls.Failure):
        raise MoltingError(answer.message, remedy=answer.remedy, code=answer.code)
    if answer is None:
        raise _died(verb, process.returncode, log)
    if log.stat().st_size == 0:
        log.unlink()
    return _decoded(verb, answer, result)


def _converse(
    process: subprocess.Popen[bytes], request: bytes, on_line: Callable[[Heard], None], errors: IO[bytes]
) -> calls.Result | calls.Failure | None:
    assert process.stdin and process.stdout
    try:
        with process.stdin as stdin:
            stdin.write(request + b"\n")
    except BrokenPipeError:
        pass  # it ended before it read its request; its exit status tells more
    answer = None
    with process.stdout as stdout:
        for raw in stdout:
            try:
                line = calls.decode_line(raw)
            except (msgspec.DecodeError, RecursionError):
                errors.write(raw)  # a library's stray print is for the log, not for the reader
                continue
            if isinstance(line, (calls.Result, calls.Failure)):
                answer = line
            else:
                on_line(line)
    return answer


def _decoded(verb: str, answer: calls.Result, result: type[T]) -> T:
    try:
        return msgspec.json.decode(answer.value, type=result)
    except msgspec.DecodeError as error:
        raise MoltingError(f"The engine answered {verb} with something else than expected: {error}.") from None


def _died(verb: str, status: int, log: Path) -> MoltingError:
    how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    remedy = "Free some memory, then try again." if status == -9 else "Look there for the cause."
    return MoltingError(f"The engine {how} before it answered {verb}; its last words are in {log}.", remedy=remedy)
