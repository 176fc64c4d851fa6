"""The one registry of what keys do: bindings, footer, help, command palette and docs/keys.md come from here.

A key means the same on every screen; only what is typed into, as a field is, has keys of its own: the forms of grading
and curating, and the line of Chat. What stops or destroys is a shifted letter, and asks once or can be taken back. No
key that tmux, screen or a shell takes for itself: ctrl+a, ctrl+b, ctrl+o, ctrl+s, ctrl+space.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from textual.binding import Binding, BindingType
from textual.keys import Keys, _character_to_key, format_key

from engine.contract.errors import MoltingError
from engine.contract.safe import safe

EVERYWHERE = "everywhere"
SCOPES = {
    EVERYWHERE: "Everywhere",
    "list": "Lists",
    "runs": "Runs",
    "live": "Live",
    "form": "New run",
    "data": "Rows",
    "row": "A row",
    "chat": "Chat",
    "composer": "A question",
    "bench": "Models side by side",
    "grade": "Grade",
    "pairs": "Grade, pairs",
    "compare": "Compare",
    "curate": "Curate",
}


@dataclass(frozen=True)
class Action:
    """`id` is what config.toml names, and with `_` for `-` the `action_…` method of the screen or the app.

    An id may stand here more than once, with the same keys: what it does is told in the words of each screen.
    """

    id: str
    keys: str  # comma-separated; "" for what only the command palette offers
    scope: str  # one or more of SCOPES, separated by spaces
    label: str  # in the footer
    description: str
    show: bool = True  # in the footer
    priority: bool = False  # heard even while text is typed

    @property
    def method(self) -> str:
        return self.id.replace("-", "_")

    @property
    def scopes(self) -> frozenset[str]:
        return frozenset(self.scope.split())


ACTIONS = (
    Action("open", "enter", "runs", "open", "See the run live: its loss, memory, samples and log."),
    Action("open", "enter", "data", "edit row", "Write the row in a form; the first one where there is none."),
    Action("open", "enter", "chat", "write", "To the line where questions are written."),
    Action("open", "enter", "composer", "ask", "Ask the question."),
    Action("new", "n", "runs", "new", "New run from a spec file."),
    Action("init", "I", "runs", "new persona", "Make a persona folder, and a run of it.", show=False),
    Action("new", "n", "data", "new row", "Write a new row after this one."),
    Action("new", "n", "chat", "new", "A new conversation; this one stays in the list."),
    Action("new", "n", "bench", "new", "Ask several models the same."),
    Action("stop", "S", "runs live", "stop", "Finish the step, save, and end the run. Asks first."),
    Action("stop", "S", "chat", "stop", "End the answers at this token, or the loading."),
    Action("resume", "r", "runs live", "resume", "Continue the run from its newest checkpoint."),
    Action("maximise", "z", "live", "maximise", "The focused pane over the whole screen; tab goes from pane to pane."),
    Action("smooth", "s", "live", "smooth", "Smooth the curves: not, some, more, most; the raw ones stay, dim."),
    Action("filter", "slash", "runs", "filter", "Show only what matches, as you type; escape clears."),
    Action("filter", "slash", "live", "search", "Show only the lines of the log that match; escape clears."),
    Action("filter", "slash", "data", "search", "Search all rows; escape ends it."),
    Action("filter", "slash", "chat", "search", "Find a conversation by what was said in it."),
    Action("log-scale", "y", "live", "log y", "Draw the loss on a logarithmic scale, or a linear one."),
    Action("x-axis", "x", "live", "x axis", "Draw over steps, tokens or time."),
    Action("demo", "d", "runs", "demo", "Train a shipped persona on a small model, to see all of it once."),
    Action("raw-log", "l", "live", "raw log", "What the engine printed, a traceback too, or the log of events again."),
    Action("chat", "c", "runs live", "chat", "Ask base and adapter, side by side."),
    Action("edit", "e", "runs live", "edit a copy", "New run from this run's spec, in a form."),
    Action("edit", "e", "curate", "edit", "Write the answer otherwise, and keep it so."),
    Action("edit", "e", "chat", "ask changed", "Ask the chosen question changed: a branch beside it."),
    Action("save-now", "w", "runs live", "save now", "Write a checkpoint at the next step."),
    Action("why", "W", "runs live chat", "why", "Find out why a run changed nothing, by measuring.", show=False),
    Action("stop-now", "K", "runs live", "stop now", "End the run at once, unsaved. Asks first.", show=False),
    Action("select", "space", "runs", "select", "Select the run; actions then take all selected."),
    Action("select-all", "a", "runs", "select all", "Select all runs shown, or none.", show=False),
    Action("sort", "o", "runs bench", "sort", "Sort by the next column.", show=False),
    Action("reverse", "i", "runs bench", "reverse", "Turn the order round.", show=False),
    Action("reverse", "i", "compare", "other way round", "The second run as the one before."),
    Action("pin", "p", "runs", "pin", "Keep the run at the top, or no longer.", show=False),
    Action("rename", "m,f2", "runs", "rename", "Show the run under another name.", show=False),
    Action("archive", "h", "runs", "archive", "Hide the run from the list, or show it again.", show=False),
    Action("archived", "full_stop", "runs", "archived", "Show archived runs too, or no longer.", show=False),
    Action("delete", "D", "runs", "delete", "Move the run to the trash. Asks first."),
    Action("delete", "D", "data", "delete", "Delete the row; undo brings it back."),
    Action("undo", "u", "runs", "undo", "Bring back the runs deleted last.", show=False),
    Action("undo", "u", "data", "undo", "Take back the last change of rows.", show=False),
    Action("hosts", "at", "runs", "other machines", "List the runs of other machines too, or no longer.", show=False),
    Action("empty-trash", "", "runs", "empty trash", "Delete what is in the trash, for good. Asks first.", show=False),
    Action("details", "v", "runs", "details", "Show or hide the pane beside the list.", show=False),
    Action("details", "v", "curate", "refused", "What the gates refused, and why; or the answers again."),
    Action("details", "v", "data", "all", "Sums and charts over all rows, or the row again."),
    Action("tree", "T", "runs", "tree", "Runs below those they came from, sweeps together; or one list.", show=False),
    Action("sweep", "M", "runs", "sweep", "The runs of the sweep in one table, the best marked.", show=False),
    Action("overlay", "b", "runs", "in one plot", "Selected runs, or a sweep's, in one plot.", show=False),
    Action("overlay", "b", "live", "beside", "Lay another run over this one, or take it away.", show=False),
    Action("overlay", "b", "chat", "third voice", "A third voice: merged, a checkpoint, another run.", show=False),
    Action("cursor-left", "left", "live", "cursor left", "Read values at a cursor; it moves left.", show=False),
    Action("cursor-left", "left", "grade", "dimension before", "To the dimension before.", show=False),
    Action("cursor-right", "right", "live", "cursor right", "Read values at a cursor; it moves right.", show=False),
    Action("cursor-right", "right", "grade", "next dimension", "To the next dimension.", show=False),
    Action("zoom-in", "plus", "live", "zoom in", "See less of it, closer, around the cursor.", show=False),
    Action("zoom-out", "minus", "live", "zoom out", "See more.", show=False),
    Action("zoom-all", "0", "live", "see all", "End the zoom.", show=False),
    Action("pan-left", "less_than_sign", "live", "pan left", "Move what is zoomed to the left.", show=False),
    Action("pan-right", "greater_than_sign", "live", "pan right", "Move what is zoomed to the right.", show=False),
    Action("older-sample", "left_square_bracket", "live", "older", "Answers of the step before.", show=False),
    Action("older-sample", "left_square_bracket", "chat", "branch before", "To the branch before.", show=False),
    Action("older-sample", "left_square_bracket", "curate", "answer before", "To the answer before.", show=False),
    Action("older-sample", "left_square_bracket", "bench", "prompt before", "To the prompt before.", show=False),
    Action("newer-sample", "right_square_bracket", "live", "newer", "Answers of the step after.", show=False),
    Action("newer-sample", "right_square_bracket", "chat", "next branch", "To the next branch.", show=False),
    Action("newer-sample", "right_square_bracket", "curate", "next answer", "To the next answer.", show=False),
    Action("newer-sample", "right_square_bracket", "bench", "next prompt", "To the next prompt."),
    Action("pane-rates", "1", "live", "rates", "Show or hide learning rate, gradient and tokens a second.", show=False),
    Action("pane-memory", "2", "live", "memory", "Show or hide the memory.", show=False),
    Action("pane-samples", "3", "live", "samples", "Show or hide the samples.", show=False),
    Action("pane-log", "4", "live", "log", "Show or hide the log.", show=False),
    Action("rows", "t,f3", "runs live form", "rows", "Look at the training rows, as the model sees them.", show=False),
    Action("editor", "E", "data", "editor", "Write the row in $EDITOR."),
    Action("find-next", "N", "data", "next", "Search on.", show=False),
    Action("go-to-row", "colon", "data", "go to", "To the row of a number."),
    Action("redo-row", "U", "data", "redo", "Make the change again that was taken back.", show=False),
    Action("row-up", "shift+up", "data", "move up", "Swap the row with the one above.", show=False),
    Action("row-down", "shift+down", "data", "move down", "Swap the row with the one below.", show=False),
    Action("differs", "equals_sign", "data", "compare", "What changed in the rows since a run."),
    Action("differs", "equals_sign", "chat", "difference", "Where the answers differ, word by word."),
    Action("differs", "equals_sign", "runs live", "compare", "Compare two selected runs, or one with another."),
    Action("next-row", "f4,ctrl+j", "row", "next new row", "Keep the row and write the next one.", priority=True),
    Action("add-turn", "f5", "row", "add turn", "One more turn at the end.", priority=True),
    Action("drop-turn", "f6", "row", "drop turn", "Take the last turn away.", priority=True),
    Action("newline", "ctrl+j,alt+enter", "composer", "new line", "Begin a new line."),
    Action("regenerate", "R", "chat", "again", "Ask the question again; where it is drawn, with the next seed."),
    Action("branch", "f", "chat", "branch", "The next question follows the chosen one, beside what followed before."),
    Action("preset", "P", "chat", "preset", "Choose a preset: deterministic, creative, conservative, your own."),
    Action("parameters", "O", "chat", "parameters", "Set every parameter of the answers."),
    Action("system", "Y", "chat", "system", "Edit the system prompt of the next questions."),
    Action("history", "H", "chat", "history", "Each voice is told its own earlier answers, or all the adapter's."),
    Action("keep-row", "A", "chat", "keep row", "Append the answer to a file of rows, with where it came from."),
    Action("to-grading", "G", "chat", "to grading", "Make an answer sheet of the question and its answers."),
    Action("bench", "B", "runs", "models", "Several models side by side, on the same prompts.", show=False),
    Action("benches", "L", "bench", "others", "Look at another bench that was kept."),
    Action("grade", "g", "runs live", "grade", "Grade the run's answers: blind, by keys alone."),
    Action("grade", "g", "compare", "grade", "Grade the first run by the rubric of the second."),
    Action("curate", "C", "runs live", "curate", "Choose among the run's own answers for its next set.", show=False),
    Action("generations", "Z", "runs live", "generations", "The ledger of self-training: table and plot.", show=False),
    Action("report", "V", "runs live", "report", "Write the run's report and read it: verdict first.", show=False),
    Action("prove", "", "runs live", "prove", "Measure whether the training changed anything.", show=False),
    Action("merge", "", "runs live", "merge", "Base and adapter as one model, proven to answer the same.", show=False),
    Action("pack", "", "runs live", "pack", "The run as one file, to keep or to give away.", show=False),
    Action("next-step", "J", "runs live", "next step", "Do what comes next: the strip names it.", show=False),
    *(
        Action(f"level-{n}", str(n), "grade", f"level {n}", f"Level {n} in this dimension; on to the next.", show=False)
        for n in range(10)
    ),
    Action("commit", "enter", "grade", "commit", "The answer is graded: on to the next. Quoting: take the words."),
    Action("keep", "y", "curate", "keep", "The answer goes into the next set of rows."),
    Action("reject", "n", "curate", "reject", "The answer does not go into the next set."),
    Action("take-back", "backspace", "curate", "undo", "Take the last choice back; without limit."),
    Action("take-back", "backspace", "grade pairs", "undo", "Take the last key back; without limit."),
    Action("comment", "m", "grade", "comment", "A note on this dimension; up and down put in its level texts."),
    Action("quote", "v", "grade", "quote", "Quote the answer: v begins, arrows move, v marks, Enter takes."),
    Action("flag", "f", "grade", "flag", "Mark the answer to be looked at again, or no longer."),
    Action("skip", "tab", "grade", "skip", "Later: it comes again when the others are done."),
    Action("skip", "tab", "curate", "skip", "To the next answer without a choice."),
    Action("pause", "p", "grade pairs", "pause", "Stop the clock until the next key."),
    Action("accept", "y", "grade", "accept", "Take the machine's level; yours stays on record.", show=False),
    Action("overrule", "n", "grade", "overrule", "Keep your level; the machine's stays on record.", show=False),
    Action("left-better", "a", "pairs", "left", "The left answer is the better one."),
    Action("right-better", "b", "pairs", "right", "The right answer is the better one."),
    Action("tie", "t", "pairs", "tie", "Both are equally good."),
    Action("both-bad", "n", "pairs", "both bad", "Neither is any good."),
    Action("up", "up,k", "list", "up", "One up.", show=False),
    Action("down", "down,j", "list", "down", "One down.", show=False),
    Action("page-up", "pageup", "list", "page up", "One page up.", show=False),
    Action("page-down", "pagedown", "list", "page down", "One page down.", show=False),
    Action("first", "home", "list", "first", "To the first.", show=False),
    Action("last", "end", "list", "last", "To the last.", show=False),
    Action("start", "ctrl+g", "form", "start", "Start the run. It queues where the device is taken.", priority=True),
    Action("check", "ctrl+t", "form", "check", "Look for what would go wrong, and show the plan.", priority=True),
    Action("apply-fix", "ctrl+y", "form", "apply fix", "Make the change that mends the finding.", priority=True),
    Action("next-finding", "ctrl+n", "form", "next finding", "Highlight the next finding.", priority=True),
    Action("write", "ctrl+r", "form", "write file", "Write the spec to a file, comments kept.", priority=True),
    Action("write", "ctrl+r", "data", "save", "Save the rows.", priority=True),
    Action("write", "ctrl+r", "chat", "write file", "Write what is read now to a Markdown file.", priority=True),
    Action("write", "ctrl+r", "bench", "write file", "Write figures and answers, as .csv or .md.", priority=True),
    Action("all-fields", "ctrl+l", "form", "all fields", "Show every key, or the usual ones.", priority=True),
    Action("back", "q,escape", EVERYWHERE, "back", "Back: clear the filter, close, leave the screen."),
    Action("help", "question_mark,f1", EVERYWHERE, "help", "The keys that work here."),
    Action("palette", "ctrl+p", EVERYWHERE, "palette", "Find an action by its name.", priority=True),
    Action("quit", "ctrl+q", EVERYWHERE, "quit", "Leave Molting. Runs go on.", show=False, priority=True),
    Action("copy", "ctrl+c", EVERYWHERE, "copy", "Copy what is selected; cancel what is going on.", show=False),
    Action("suspend", "ctrl+z", EVERYWHERE, "suspend", "To the shell; fg comes back.", show=False, priority=True),
    Action("theme", "", EVERYWHERE, "theme", "Choose the colours.", show=False),
)  # fmt: skip
BY_ID = {action.id: action for action in ACTIONS}  # one of each id: they have the same keys
# These never reach a program inside tmux, whatever the terminal sends.
_NEVER_ARRIVE = frozenset({"ctrl+enter", "shift+enter", "ctrl+space", "ctrl+at"})


def bindings(*scopes: str) -> list[BindingType]:
    """Textual's bindings of everything in these scopes that has a key."""
    wanted = frozenset(scopes)
    return [
        Binding(
            action.keys,
            action.method,
            action.label,
            show=action.show,
            tooltip=action.description,
            id=action.id,
            priority=action.priority,
        )
        for action in ACTIONS
        if action.keys and wanted & action.scopes
    ]


def with_keymap(custom: Mapping[str, str]) -> tuple[Action, ...]:
    """The registry with the user's own keys. MoltingError (code 2) naming everything wrong with them."""
    problems = list(_problems(custom))
    if problems:
        raise MoltingError(
            "The keys in config.toml cannot be used: " + " ".join(problems),
            remedy="docs/keys.md lists the actions and their keys.",
            code=2,
        )
    return tuple(_with_keys(action, custom) for action in ACTIONS)


def _with_keys(action: Action, custom: Mapping[str, str]) -> Action:
    return replace(action, keys=",".join(key_names(custom[action.id]))) if action.id in custom else action


def key_names(keys: str) -> list[str]:
    """Comma-separated keys by Textual's names: `?` is question_mark."""
    names = [key.strip() or "," for key in keys.split(",")] if keys.strip(" ,") else []
    return [_character_to_key(name) if len(name) == 1 else name for name in names]


def _problems(custom: Mapping[str, str]) -> Iterable[str]:
    for action_id, keys in custom.items():
        if action_id not in BY_ID:
            close = difflib.get_close_matches(action_id, BY_ID, 1)
            hint = f" Did you mean {close[0]}?" if close else ""
            yield f"there is no action {safe(action_id[:60], False)!r}.{hint}"
            continue
        names = key_names(keys)
        if not names:
            yield f"{action_id} has no key."
        for name in names:
            if not _is_key(name):
                yield f"{action_id}: {safe(name[:40], False)!r} is not a key that a terminal sends."
    yield from _clashes([_with_keys(action, custom) for action in ACTIONS])


def _clashes(actions: Iterable[Action]) -> Iterable[str]:
    """A key may have one meaning only among the actions that can be heard together."""
    heard: dict[str, list[Action]] = {}
    for action in actions:
        for key in key_names(action.keys):
            for other in heard.setdefault(key, []):
                if _together(action, other):
                    yield f"{shown_key(key)} would mean both {other.id} and {action.id}."
            heard[key].append(action)


def _together(one: Action, other: Action) -> bool:
    if one.id == other.id:
        return False
    # A list lies within a screen, so its keys must not be the screen's either.
    wide = {EVERYWHERE, "list"}
    return bool(one.scopes & other.scopes or wide & one.scopes or wide & other.scopes)


def _is_key(name: str) -> bool:
    if name in _NEVER_ARRIVE:
        return False
    base = name
    for modifier in ("ctrl+", "alt+", "shift+"):
        base = base.removeprefix(modifier)
    known = {key.value for key in Keys}
    return name in known or base in known or base == "space" or len(base) == 1 or _is_named_character(base)


def _is_named_character(name: str) -> bool:
    return any(_character_to_key(chr(code)) == name for code in range(0x21, 0x7F))


def shown_key(key: str) -> str:
    """A key as the footer names it: `?`, `ctrl+q`, `enter`, `S`."""
    *modifiers, name = key.split("+")
    names = {"escape": "esc", "space": "space", "enter": "enter", "pageup": "pgup", "pagedown": "pgdn"}
    return "+".join([*modifiers, names.get(name, format_key(name))])


def shown_keys(keys: str) -> str:
    """All keys of an action: `q, esc`."""
    return ", ".join(shown_key(key) for key in key_names(keys))


def in_scope(scopes: Iterable[str], actions: Iterable[Action] = ACTIONS) -> list[Action]:
    """The actions of any of these scopes, in the order of the registry."""
    wanted = frozenset(scopes)
    return [action for action in actions if wanted & action.scopes]


def keys_page() -> str:
    """The text of docs/keys.md."""
    lines = [
        "# Keys",
        "",
        "Every action of the app, by screen. The same list stands behind `?` in the app; ctrl+p finds an action by",
        "name. A key means the same on every screen; only the forms of grading and curating, and the line of Chat,",
        "which are typed into, have keys of their own. What stops or destroys takes a shifted letter, and asks once or",
        "can be taken back.",
        "",
        "To change keys, write a `[keys]` section into `config.toml`: the action's name, then its keys, separated by",
        "commas. They replace the default ones, on every screen. A name that does not exist, or a key that would then",
        "mean two things, is refused when the app starts.",
        "",
        "```toml",
        "[keys]",
        'stop = "S,f9"',
        'filter = "f8"',
        "```",
    ]
    for scope, title in SCOPES.items():
        actions = in_scope([scope])
        if not actions:
            continue
        lines += ["", f"## {title}", "", "| key | action | what it does |", "|---|---|---|"]
        lines += [f"| {_cell(action.keys)} | `{action.id}` | {action.description} |" for action in actions]
    return "\n".join(lines) + "\n"


def _cell(keys: str) -> str:
    shown = [f"`{shown_key(key)}`" for key in key_names(keys)]
    return " ".join(shown) if shown else "(palette)"
