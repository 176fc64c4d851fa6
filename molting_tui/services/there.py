"""A command on another machine with this terminal, as if one had logged in there."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Sequence

from engine.contract.errors import MoltingError

from .. import terminal
from . import ssh
from .ssh import DROPPED, NO_MOLTING, NO_ROOT, Machine

_AGAIN = 20.0  # seconds before the connection was lost whose lines may not have come; they are told again
_WAITS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # seconds between attempts to connect again; then the last
# What a program that was cut off leaves behind: reports of mouse, focus, paste and keys, the other screen, no cursor.
_MODES = ("1000", "1002", "1003", "1006", "1015", "1004", "2004", "2026", "1049")
_AS_BEFORE = "".join(f"\x1b[?{mode}l" for mode in _MODES) + "\x1b[<u\x1b[?25h\x1b[0m"


def run_there(machine: Machine, args: Sequence[str], verb: str) -> int:
    """Run `molting ARGS` on `machine` with this terminal, if it is one; the exit status there.

    `attach` only reads: when the connection is lost, it is made again. Else MoltingError says that it was.
    """
    here = sys.stdin.isatty()
    tty = here and sys.stdout.isatty()
    if not machine.connected():
        _compare(machine.greet(ask=here), machine)
    status = _run(machine.argv(args, tty=tty, ask=here))
    lost = time.monotonic()
    while status == DROPPED and verb == "attach":
        _restore(tty)
        name = machine.name
        terminal.warn(f"The connection to {name} was lost; the run goes on. Connecting again; Ctrl+C leaves.")
        _reconnect(machine, here)
        since = math.ceil(time.monotonic() - lost + _AGAIN)
        status = _run(machine.argv([*args, f"--last={since}"], tty=tty, ask=here))
        lost = time.monotonic()
    if status in (NO_ROOT, NO_MOLTING):
        raise machine.failed(status, "")
    if status == DROPPED:
        _restore(tty)
        what = f"`molting {verb}` there may have been done or not" if verb else "runs go on there"
        raise MoltingError(
            f"The connection to {machine.name} was lost; {what}.",
            remedy=f"`molting --host {machine.name} runs` shows how its runs stand.",
        )
    return status


def _run(argv: list[str]) -> int:
    try:
        status = subprocess.run(argv, check=False).returncode
    except FileNotFoundError:
        raise ssh.no_ssh() from None
    return 128 - status if status < 0 else status


def _reconnect(machine: Machine, here: bool) -> None:
    """Until it is there again. MoltingError where it is, and Molting is not."""
    for attempt in range(10**6):
        time.sleep(_WAITS[min(attempt, len(_WAITS) - 1)])
        try:
            machine.greet(ask=here)
            return
        except MoltingError as error:
            if "cannot be reached" not in error.message:
                raise


def _compare(there: str, machine: Machine) -> None:
    """Say so where Molting there is another: what one knows the other may not."""
    from importlib.metadata import version

    if there != version("molting"):
        terminal.warn(f"{machine.name} has molting {there}, this machine {version('molting')}.")


def _restore(tty: bool) -> None:
    if tty:
        sys.stdout.write(_AS_BEFORE)
        sys.stdout.flush()
