"""What a child process may see of our environment, and the private folders of this user on this machine."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from .errors import MoltingError
from .safe import redact

_SECRET_NAME = re.compile(
    r"""^( AWS_ | AZURE_ | OPENAI_ | ANTHROPIC_ | WANDB_ | GITHUB_ | GITLAB_ | GOOGLE_APPLICATION_ | SSH_ )
    | (^|_)( TOKEN | KEY | APIKEY | SECRET | PASS | CREDENTIALS? )(_|$)
    | PASSW(OR)?D | PASSPHRASE
    """,
    re.IGNORECASE | re.VERBOSE,
)


def clean_env(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """`env` (default: ours) without secrets: what is named like one, and what looks like one.

    Kept are PATH, HOME, CUDA_*, OMP_*, HF_HOME, HF_ENDPOINT, LANG, XDG_* and whatever else is no secret.
    """
    env = os.environ if env is None else env
    return {
        name: value
        for name, value in env.items()
        if not _SECRET_NAME.search(name) and redact(f"{name}={value}") == f"{name}={value}"
    }


def runtime_dir() -> Path:
    """The private folder for sockets: $XDG_RUNTIME_DIR/molting, else `local_dir()`.

    MoltingError if it is not private.
    """
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
    # After sudo the variable may still name another user's folder.
    ours = base.is_absolute() and base.is_dir() and base.stat().st_uid == os.getuid()
    return _private(base / "molting") if ours and not os.environ.get("MOLTING_RUNTIME_DIR") else local_dir()


def local_dir() -> Path:
    """The one folder of this user on this machine, the same in every login, cron job and batch job.

    /tmp/molting-UID, or $MOLTING_RUNTIME_DIR. Not XDG_RUNTIME_DIR, which is unset in some sessions and
    deleted at the last logout, while runs go on. MoltingError if it is not private.
    """
    chosen = os.environ.get("MOLTING_RUNTIME_DIR")
    return _private(Path(chosen) if chosen else Path(f"/tmp/molting-{os.getuid()}"))


def _private(path: Path) -> Path:
    """Make `path` if needed, and make sure that it is a folder which only this user may enter."""
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        status = path.lstat()
    except OSError as error:
        raise MoltingError(f"{path} cannot be used as a private folder: {error.strerror}.") from None
    ours = status.st_uid == os.getuid() and not status.st_mode & 0o077
    if not stat.S_ISDIR(status.st_mode) or not ours:
        raise MoltingError(
            f"{path} is not a folder that only this user may enter, so it is not used.",
            remedy="Look at who made it, then remove it.",
        )
    return path
