"""What a spec may say to Slurm. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .spec import Launcher
from .tomllines import KeyPath
from .tomlwords import shown_value

KEYS = ("partition", "time", "gres", "nodes", "requeue")  # options of sbatch for which the spec has a key
OURS = (
    *KEYS,
    *("array", "chdir", "error", "export", "export-file", "get-user-env", "hold", "input", "job-name", "no-requeue"),
    *("ntasks", "ntasks-per-node", "open-mode", "output", "parsable", "signal", "test-only", "wait", "wrap"),
    *("help", "usage", "version"),
)
_SIMPLE = re.compile(r"[A-Za-z0-9_.,:=+/-]*")  # what can stand in a line of a job script without quotes
_TIME = re.compile(r"(?:([0-9]{1,6})-)?([0-9]{1,9})(?::([0-9]{1,2}))?(?::([0-9]{1,2}))?")
_FORMS = {
    "partition": (re.compile(r"[\w.+-]+(,[\w.+-]+)*", re.ASCII), 'a name, or several as "gpu,long"'),
    "time": (_TIME, '"90" (minutes), or as "8:00:00" or "2-12:00:00" (days-hours:minutes:seconds)'),
    "gres": (
        re.compile(r"[A-Za-z][\w./-]*(:[\w.-]+){0,2}(,[A-Za-z][\w./-]*(:[\w.-]+){0,2})*", re.ASCII),
        'devices of each node, as "gpu:1" or "gpu:a100:2"',
    ),
}
_OPTION = re.compile(r'--([a-z][a-z0-9-]{1,40})(?:=([^\x00-\x1f\x7f"\\]{1,500}))?')


def mistakes(said: Launcher) -> Iterator[tuple[KeyPath, str]]:
    """What Slurm would refuse at sight, and options that are Molting's to give: where, and a sentence."""
    for key, (form, expected) in _FORMS.items():
        value = getattr(said, key)
        if value and not form.fullmatch(value):
            yield ("launcher", key), f"launcher.{key} is {shown_value(value)}; expected {expected}."
    if 0 < seconds(said.time) <= said.save_before:
        yield (
            ("launcher", "time"),
            f"launcher.time is {seconds(said.time)} s and launcher.save_before {said.save_before}: the run would save "
            "and leave as soon as it begins. Give it more time, or a smaller save_before.",
        )
    for number, option in enumerate(said.extra):
        if wrong := _wrong(option):
            yield ("launcher", "extra", number), wrong


def seconds(time: str) -> int:
    """A time limit as Slurm reads it; 0 for none, for its "0" (no limit), and for what is no time."""
    found = _TIME.fullmatch(time)
    if not found:
        return 0
    days, first, second, third = (int(part) if part else 0 for part in found.groups())
    if found[1]:  # days-hours:minutes:seconds
        return ((days * 24 + first) * 60 + second) * 60 + third
    return (first * 60 + second) * 60 + third if found[4] else first * 60 + second  # minutes:seconds


def directive(option: str) -> str:
    """An option of `extra`, which was checked by `mistakes`, as it stands in a script."""
    name, equals, value = option.partition("=")
    return option if _SIMPLE.fullmatch(value) else f'{name}{equals}"{value}"'


def _wrong(option: str) -> str:
    found = _OPTION.fullmatch(option)
    if not found:
        blank = re.fullmatch(r"(--[a-z][a-z0-9-]{1,40})\s+(\S.*)", option)
        example = f"{blank[1]}={blank[2]}" if blank and _OPTION.fullmatch(f"{blank[1]}={blank[2]}") else "--mem=32G"
        return (
            f'launcher.extra gives {shown_value(option)}; expected one long option of sbatch each, as "{example}", '
            "without quotes or backslashes in it."
        )
    # sbatch takes the beginning of a long option for the option.
    if taken := next((ours for ours in OURS if ours.startswith(found[1])), ""):
        instead = f"Give launcher.{taken} instead." if taken in KEYS else "Leave it out."
        return f"launcher.extra gives --{found[1]}, which Molting says itself. {instead}"
    return ""
