"""`molting`, and `python -m molting_tui`. No failure leaves a bare traceback on the screen."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from engine.contract.errors import MoltingError

from . import state_files, terminal


def main() -> None:
    """Run the command line and exit: 0 good, 1 the answer is bad, 2 the call is wrong, 3 it could not be done."""
    os.umask(0o077)
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # a stream put there by a test or a host program
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        if len(sys.argv) == 1 and sys.stdin.isatty() and terminal.out().tty:
            from .commands.open_app import open_app  # past the command line: the first screen stands sooner

            raise SystemExit(open_app())
        from .cli import app

        app(prog_name="molting")
    except MoltingError as error:
        terminal.complain(error.message, error.remedy)
        raise SystemExit(error.code) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        log = state_files.log_crash(error)
        terminal.complain(
            f"Something went wrong that Molting did not foresee ({type(error).__name__}).",
            f"Look at {log}, and report it if it is Molting's fault.",
        )
        raise SystemExit(3) from None


if __name__ == "__main__":
    main()
