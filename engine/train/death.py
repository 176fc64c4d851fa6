"""Why a trainer died, from what is left of it: its exception, its exit status, and the machine around it."""

from __future__ import annotations

import errno
import signal
import traceback
from pathlib import Path

import msgspec

from engine.contract import durable
from engine.contract.errors import MoltingError, Reason
from engine.contract.lifecycle import Evidence
from engine.contract.safe import redact

TRACEBACK_LINES = 30
REMEDIES: dict[str, str] = {
    "oom_cuda": "Try a smaller training.batch with more accumulation, gradient_checkpointing = true, a shorter "
    'data.max_length, or method.kind = "qlora".',
    "oom_host": "Try a smaller training.batch, a shorter data.max_length, or data.stream = true; and see what else "
    "runs on this machine.",
    "disk_full": "Free some space on the disk of the run, then resume.",
    "killed": "Resume the run: it continues from its newest sealed checkpoint.",
    "hang": "Resume the run; if it hangs again, raise training.hang_minutes or look into the log.",
    "exception": "The log of the attempt holds the whole traceback.",
}


LOST = "The other processes were not heard"
_TOGETHER = "See what became of the other machine or GPU, then resume the run."
_UNHEARD = ("Timed out waiting", "Watchdog caught collective operation timeout", "wait timeout after")
_GONE = (
    *("Connection closed by peer", "Connection reset by peer", "Broken pipe", "gloo/transport", "DistBackendError"),
    *("DistNetworkError", "DistStoreError", "RendezvousConnectionError", "ncclRemoteError", "ncclSystemError"),
)


class Death(msgspec.Struct, kw_only=True):
    """What stands in `death.json`, and what a failed run records."""

    reason: Reason
    evidence: Evidence


def of_exception(error: BaseException) -> Death:
    """The death that `error` means, with the last lines of its traceback, secrets removed."""
    reason, message, remedy = _reason(error)
    lines = "".join(traceback.format_exception(error)).splitlines()[-TRACEBACK_LINES:]
    evidence = Evidence(
        message=redact(message), remedy=remedy or REMEDIES.get(reason, ""), traceback=redact("\n".join(lines))
    )
    return Death(reason=reason, evidence=evidence)


def _reason(error: BaseException) -> tuple[Reason, str, str]:
    if isinstance(error, MoltingError):
        return error.reason, error.message, error.remedy
    text = f"{type(error).__name__}: {error}"
    first = text.strip().splitlines()[0][:500]
    if type(error).__name__ == "OutOfMemoryError" or "CUDA out of memory" in text or "ALLOC_FAILED" in text:
        return "oom_cuda", f"The GPU has no memory left. {first}", ""
    if isinstance(error, MemoryError) or "can't allocate memory" in text or "Cannot allocate memory" in text:
        return "oom_host", f"The machine has no memory left. {first}", ""
    if _is_disk_full(error):
        return "disk_full", f"The disk is full. {first}", ""
    if any(word in text for word in _UNHEARD):
        return "hang", f"{LOST} in time. {first}", _TOGETHER
    if any(word in text for word in _GONE):
        return "exception", f"{LOST} any more. {first}", _TOGETHER
    return "exception", first, ""


def _is_disk_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def lost_another(said: Death) -> bool:
    """Whether a process only says that it does not hear another one any more: the other knows why."""
    return said.evidence.message.startswith(LOST)


def of_exit(status: int, *, said: Death | None, starved: bool) -> Death:
    """The death behind exit `status` (negative: the signal). `said` is the trainer's own word; `starved` whether
    the machine had run out of memory when it was killed."""
    if said is not None and starved and said.evidence.signal == "SIGKILL":
        message = f"{said.evidence.message} The machine had no memory left."
        return Death(reason="oom_host", evidence=_evidence("oom_host", message, signal="SIGKILL"))
    if said is not None:
        said.evidence.exit_code = status
        return said
    if status >= 0:
        message = f"The trainer ended with exit status {status} and left no word."
        return Death(reason="exception", evidence=_evidence("exception", message, exit_code=status))
    name = signal.Signals(-status).name
    if starved and status == -signal.SIGKILL:
        message = "The kernel killed the trainer because the machine had no memory left."
        return Death(reason="oom_host", evidence=_evidence("oom_host", message, signal=name))
    message = f"The trainer was killed by {name}."
    return Death(reason="killed", evidence=_evidence("killed", message, signal=name))


def of_silence(seconds: float) -> Death:
    message = f"The trainer got nowhere for {seconds:.0f} seconds and was ended."
    return Death(reason="hang", evidence=_evidence("hang", message))


def _evidence(reason: Reason, message: str, **known: object) -> Evidence:
    return Evidence(message=message, remedy=REMEDIES.get(reason, ""), **known)  # type: ignore[arg-type]


def write(path: Path, death: Death) -> None:
    """Durably, for the supervisor; on a full disk the exit status must do."""
    durable.write_replace(path, msgspec.json.encode(death))


def read(path: Path) -> Death | None:
    """None when the trainer left no word, or a torn one."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Death)
    except (OSError, msgspec.DecodeError):
        return None
