"""`molting attach`: replay a run and follow it. Also how every other command follows one."""

from __future__ import annotations

import time
from typing import Annotated, Optional

import typer

from engine.contract import lifecycle, slurm, summary
from engine.contract.rundir import RunDir

from .. import terminal
from ..narrate import Narrator
from ..progress import ProgressLine
from ..services.follow import Follower
from .context import Json, Run, places, print_json

POLL = 0.25  # seconds
_OWNER_EVERY = 2.0  # seconds between looks at whether the supervisor lives
_CLAIM = 10.0  # seconds that a queued run is given to find a supervisor
BAD = frozenset({"failed", "lost"})


Last = Annotated[
    Optional[float], typer.Option("--last", metavar="SECONDS", min=0, help="Of what happened, tell only these last.")
]


def attach(ctx: typer.Context, run: Run, last: Last = None, json: Json = False) -> None:
    """Tell what happened in a run, then follow it until it ends. Ctrl+C leaves; the run goes on."""
    found = places(ctx).find(run)
    since = 0.0 if last is None else time.time() - last
    finish(found, follow(found, quiet=json, since=since), json=json)


def finish(run: RunDir, state: str, *, json: bool) -> None:
    """Print the outcome where JSON is wanted, and exit 1 if the run failed or was lost."""
    if json:
        seen = summary.summarise(run)
        print_json({"run": run.id, "state": state, "reason": seen.reason, "path": str(run.path)})
    if state in BAD:
        raise typer.Exit(1)


def follow(run: RunDir, *, quiet: bool = False, since: float = 0.0) -> str:
    """Tell the run's story on stdout (unless `quiet`) until it ends; the state that people see then.

    Of what was before `since` (Unix seconds) nothing is told.

    "queued" when it waits without a supervisor. KeyboardInterrupt passes through, after a word that the run
    goes on.
    """
    with Follower(run) as follower, ProgressLine(terminal.err(), quiet=quiet) as line:
        teller = _Teller(follower, line, quiet, since)
        try:
            return _until_end(teller)
        except KeyboardInterrupt:
            line.clear()
            if follower.stored in lifecycle.LIVE:
                terminal.err().line(f"Left {run.id}; it goes on. `molting attach {run.id}` comes back to it.")
            raise
        finally:
            line.clear()


class _Teller:
    """Prints what a follower sees, above a line that is rewritten where there is a terminal."""

    def __init__(self, follower: Follower, line: ProgressLine, quiet: bool, since: float) -> None:
        self.follower = follower
        self._since = since
        self._out = terminal.out()
        self._narrator = Narrator(follower.run, self._out)
        self._line = line
        self._quiet = quiet

    def tell(self) -> str:
        """Print what is new; the state in the lifecycle after that."""
        lines = []
        for seen in self.follower.poll():
            told = self._narrator.lines(seen)
            # The state is told in any case: who comes back wants to know how it ended.
            old = getattr(seen.what, "t", self._since) < self._since
            lines += [] if old and getattr(seen.what, "state", "") not in lifecycle.ENDED else told
        self._print(lines)
        self._narrator.live = True  # from now on it is not history any more
        if self.follower.stored in lifecycle.LIVE:
            self._line.status(self._narrator.status())
        return self.follower.stored

    def tell_unowned(self, shown: str) -> None:
        """Say that nobody carries the run on."""
        why = "its supervisor died without a word" if shown == "lost" else "no supervisor looks after it"
        if job := slurm.of(self.follower.run):
            why = job.sentence.removesuffix(".")
        remedy = f"`molting resume {self.follower.run.id}` continues it."
        self._print([f"{self._out.mark(shown)} {shown}  {why}. {remedy}"])

    def _print(self, lines: list[str]) -> None:
        if lines and not self._quiet:
            self._line.clear()
            self._out.line("\n".join(lines))


def _until_end(teller: _Teller) -> str:
    looked, owned_at = 0.0, time.monotonic()
    while (stored := teller.tell()) not in lifecycle.ENDED:
        now = time.monotonic()
        if now - looked >= _OWNER_EVERY:
            looked = now
            if teller.follower.owned() is not False:
                owned_at = now
            elif shown := _given_up(stored, now - owned_at):
                # It may have ended between our last look at its files and the one at its owner.
                if (stored := teller.tell()) in lifecycle.ENDED:
                    return stored
                teller.tell_unowned(shown)
                return shown
        terminal.pause(POLL)
    return stored


def _given_up(stored: str, seconds: float) -> str:
    """The state to show for a run without a supervisor; "" while one may still come."""
    shown = lifecycle.shown(stored, owner_alive=False)
    return shown if shown == "lost" or seconds > _CLAIM else ""
