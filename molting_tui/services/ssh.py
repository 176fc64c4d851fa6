"""Another machine, reached by the user's own `ssh`: their configuration, keys, jump hosts; one connection for all."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from engine.contract import environment
from engine.contract.errors import MoltingError
from engine.contract.host_client import PATH_LIMIT
from engine.contract.settings import Remote

from ..terminal import one_line

DROPPED = 255  # how ssh ends when the connection failed or was lost
NO_ROOT, NO_MOLTING = 94, 95  # how the script below ends
_PATIENCE = 15  # seconds for a machine to answer, and until one that fell silent counts as gone
_KEPT = 600  # seconds that an idle connection stays open for the next command
_SOCKET = 40 + 17  # characters of ssh's %C, and of what it appends while it makes the socket
_DESTINATION = re.compile(r"(ssh://)?([A-Za-z0-9_][\w.+-]*@)?[A-Za-z0-9_\[:][\w.:%\[\]-]*/?", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_][\w.@+-]*", re.ASCII)
# Whatever shell the login has, it only sees `exec sh -c SCRIPT sh ARGUMENT…`, each word quoted once.
_SCRIPT = """\
home() { case $1 in "~") set -- "$HOME";; "~/"*) set -- "$HOME/${1#"~/"}";; esac; printf "%s\\n" "$1"; }
root=$(home "$1") program=$(home "$2") COLORTERM=$3 LANG=${LANG:-C.UTF-8}; shift 3
export COLORTERM LANG
cd "${root:-$HOME}" || exit 94
PATH=$PATH:$HOME/.local/bin:$HOME/molting/bin:$HOME/molting/.venv/bin
command -v "$program" >/dev/null || exit 95
exec "$program" "$@"
"""


@dataclass(frozen=True)
class Machine:
    """One of the hosts in config.toml, or one whose name says all. Make it with `machine`."""

    name: str
    ssh: str
    molting: str = "molting"
    root: str = ""

    def argv(self, args: Sequence[str], *, tty: bool = False, ask: bool = False) -> list[str]:
        """How to run `molting ARGS` there; `ask`: somebody is there to type a password."""
        script = ["exec", "sh", "-c", _SCRIPT, "sh", self.root, self.molting, os.environ.get("COLORTERM", "")]
        return self.raw([*script, *args], tty=tty, ask=ask)

    def raw(self, command: Sequence[str], *, tty: bool = False, ask: bool = False) -> list[str]:
        """How to run any command there, its words kept apart."""
        options = [*self.options(ask=ask), "-t" if tty else "-T"]
        return ["ssh", *options, "--", self.ssh, " ".join(map(shlex.quote, command))]

    def options(self, *, ask: bool = False) -> list[str]:
        """Those that the user's own configuration leaves open."""
        return [*self._options, *([] if ask else ["-oBatchMode=yes"])]

    @cached_property
    def _options(self) -> tuple[str, ...]:
        own = _configured(self.ssh)
        found = ["-oLogLevel=ERROR"] if own.get("loglevel", "INFO") == "INFO" else []
        if own.get("connecttimeout", "none") == "none":
            found.append(f"-oConnectTimeout={_PATIENCE}")
        if own.get("serveraliveinterval", "0") == "0":
            found += [f"-oServerAliveInterval={_PATIENCE // 3}", "-oServerAliveCountMax=3"]
        folder = _sockets()
        if own.get("controlpath", "none") == "none" and folder is not None:
            found += ["-oControlMaster=auto", f"-oControlPath={folder}/%C", f"-oControlPersist={_KEPT}"]
        return tuple(found)

    def connected(self) -> bool:
        """Whether a connection is open that the next command will use."""
        check = ["ssh", *self.options(), "-Ocheck", "--", self.ssh]
        return _quietly(check).returncode == 0

    def hang_up(self) -> None:
        """Close the connection that was kept open."""
        _quietly(["ssh", *self.options(), "-Oexit", "--", self.ssh])

    def greet(self, *, ask: bool = False) -> str:
        """Connect, and the version of Molting there; MoltingError where the machine is away or has none."""
        status, out, err = call(self.argv(["--version"], ask=ask))
        if status == 0:
            found = re.search(r"^molting (\S+)\s*$", out, re.MULTILINE)
            return one_line(found[1])[:40] if found else "unknown"
        raise self.failed(status, err)

    def failed(self, status: int, err: str) -> MoltingError:
        """What went wrong with a command there that ended with `status` and said `err`."""
        lines = [one_line(line).strip() for line in err.splitlines() if line.strip()]
        last = lines[-1][:300] if lines else ""
        if status == DROPPED:
            return MoltingError(
                f"{self.name} cannot be reached: {last.rstrip('.') or 'ssh says no more'}.",
                remedy=f"Look whether `ssh {self.ssh}` works.",
            )
        if status == NO_ROOT:
            return MoltingError(
                f"There is no folder {one_line(self.root)} on {self.name}.",
                remedy=f"Make it there, or change `root` of [hosts.{self.name}] in config.toml.",
            )
        if status == NO_MOLTING:
            return MoltingError(
                f"There is no {one_line(self.molting)} on {self.name}.",
                remedy=f"Install Molting there, or say where it is: `molting` of [hosts.{self.name}] in config.toml.",
            )
        tries = [line[5:] for line in lines if line.startswith("try: ")]
        said = next((line for line in lines if not line.startswith(("try: ", "Usage: "))), f"it ended with {status}")
        return MoltingError(
            f"{self.name} says: {said.removeprefix('error: ')[:500]}",
            remedy=tries[0][:500] if tries else "",
            code=status if status in {1, 2, 3} else 3,
        )


def machine(name: str, hosts: Mapping[str, Remote]) -> Machine:
    """The host of that name in config.toml, else a destination of ssh. MoltingError (code 2) for what is neither."""
    known = hosts.get(name, Remote())
    destination = known.ssh or name
    # What begins with a dash would be an option: -oProxyCommand=… runs a program of its choice.
    named = not known.ssh or _NAME.fullmatch(name)
    if not named or not _DESTINATION.fullmatch(destination):
        wrong = destination if named else name
        raise MoltingError(
            f"{one_line(wrong)[:100]!r} is not the name of a machine.",
            remedy="A host of config.toml, or what `ssh` is told: box, me@box, ssh://me@box:2222.",
            code=2,
        )
    return Machine(name, destination, known.molting or "molting", known.root)


def call(argv: Sequence[str], stdin: int = subprocess.DEVNULL) -> tuple[int, str, str]:
    """(exit status, stdout, stderr) of a command over ssh. KeyboardInterrupt passes through."""
    # Not a pipe: a connection that stays open may hold on to it, and reading would never end.
    with tempfile.TemporaryFile() as errors:
        try:
            done = subprocess.run(argv, stdin=stdin, stdout=subprocess.PIPE, stderr=errors, check=False)
        except FileNotFoundError:
            raise no_ssh() from None
        errors.seek(0)
        return done.returncode, done.stdout.decode("utf-8", "replace"), errors.read(1 << 16).decode("utf-8", "replace")


def no_ssh() -> MoltingError:
    return MoltingError("There is no `ssh` here.", remedy="Install it: the package is called openssh-client.")


def _quietly(argv: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
        )
    except FileNotFoundError:
        raise no_ssh() from None


def _configured(destination: str) -> dict[str, str]:
    """What the user's configuration says of a destination; asks nobody but ssh."""
    _, out, _ = call(["ssh", "-G", "--", destination])
    return {key: value for key, _, value in (line.partition(" ") for line in out.splitlines())}


def _sockets() -> Path | None:
    """The private folder of open connections; None where its path is too long for sockets."""
    folder = environment.runtime_dir() / "ssh"
    if len(os.fsencode(folder)) + 1 + _SOCKET > PATH_LIMIT or "%" in str(folder):
        return None
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
