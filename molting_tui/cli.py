"""`molting …`: the command line. Parses and hands over; the work is in `commands` and in the engine."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from typer.core import TyperGroup

from . import terminal
from .begin import Begin
from .commands import (
    answers,
    ask,
    attach,
    bench,
    chat,
    compare,
    curate,
    data,
    demo,
    doctor,
    draft,
    export,
    generation,
    grade,
    host,
    import_,
    init,
    judge,
    merge,
    model,
    needle,
    pack,
    prove,
    push,
    report,
    resume,
    runs,
    serve,
    stop,
    sweep,
    train,
    vram,
    why,
)
from .commands.context import Places

HELP = """Molting fine-tunes a small chat model into a persona and shows, with evidence, that it took.

  molting demo                see all of it once: model, training, answers, proof
  molting init NAME           a folder to fill: rows, system prompt, probe questions, spec
  molting data FILE           rows as the model sees them; where they are written
  molting doctor SPEC         what would go wrong, and the plan
  molting model check MODEL   is a model or an adapter whole, safe, as expected?
  molting train SPEC          start a run; it goes on without this terminal
  molting sweep SPEC          a run for each combination of values; sweep show NAME
  molting runs                all runs
  molting attach RUN          follow one
  molting stop | resume RUN   save and stop; continue
  molting ask RUN QUESTION…   base and adapter side by side
  molting chat RUN            talk to both at once
  molting prove RUN           does the adapter change the model?
  molting why RUN             why did nothing change?
  molting needle RUN          is a fact in a long text found again?
  molting pack RUN | unpack FILE   one file to keep or give away; open it
  molting export RUN          its curves for TensorBoard, trackio, Weights & Biases
  molting host                what the inference host keeps in memory; host free, host stop
  molting merge RUN           one 16-bit model for other programs, proven; GGUF, Ollama
  molting bench MODEL…        the same prompts over several models
  molting serve RUN           base and adapter for programs, OpenAI-compatible
  molting answers RUN         the rubric's questions, answered and sealed
  molting grade RUN           score them by rubric: blind, by keys alone
  molting draft QUESTIONS     rows that say who it is, drafted from a persona's card
  molting curate RUN          its own answers, gated and chosen, for the next set
  molting generation RUN      the next generation from the base; the ledger of all
  molting judge RUN           a language model as a second rater
  molting import              answers and scores made elsewhere, as a run
  molting compare A B         better, worse, or not to be told
  molting report RUN          the cycle report, as Markdown and one HTML file
  molting vram                what holds the memory of the GPUs and of the host
  molting push SPEC           copy a spec and its rows to the machine of --host
  molting --host NAME …       any of these on another machine, by ssh

RUN is an id, the beginning of one, or a name. `molting COMMAND --help` tells more."""

INTERRUPTED = 130
BROKEN_PIPE = 141


class _Commands(TyperGroup):
    """Ends quietly on Ctrl+C and when whoever reads our output goes away."""

    def invoke(self, ctx: Any) -> Any:
        try:
            if ctx.params.get("host") is not None and (words := [*ctx._protected_args, *ctx.args])[:1] != ["push"]:
                from .commands.over_ssh import over_ssh

                # Not parsed here: the machine may know other commands than this one.
                raise SystemExit(over_ssh(ctx.params, words))
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = _in_plain_words(error.message)
            raise
        except KeyboardInterrupt:
            raise SystemExit(INTERRUPTED) from None
        except BrokenPipeError:
            # Python flushes stdout once more at exit; give it somewhere to go.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(BROKEN_PIPE) from None


def _in_plain_words(message: str) -> str:
    """What Typer says of a value, without the words of the library that it asks."""
    said = message.removeprefix("Value error, ").partition(", unable to ")[0].replace("Input should be", "It must be")
    said = said.replace("a valid integer", "a whole number").replace("a valid number", "a number")
    return said if said.endswith(".") or not said else f"{said}."


app = typer.Typer(
    cls=_Commands,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version as installed_version  # costs 15 ms, and few ask for it

        print(f"molting {installed_version('molting')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def molting(
    ctx: typer.Context,
    runs: Annotated[
        Optional[Path],
        typer.Option("--runs", metavar="DIR", help="Folder of the runs; MOLTING_RUNS does the same."),
    ] = None,
    host: Annotated[
        Optional[str],
        typer.Option("--host", metavar="NAME", help="Do it on that machine, by ssh: a name in config.toml, or me@box."),
    ] = None,
    show: Annotated[Optional[str], typer.Option("--show", metavar="RUN", help="Open the app on this run.")] = None,
    no_mouse: Annotated[bool, typer.Option("--no-mouse", help="The app leaves the mouse to the terminal.")] = False,
    ascii: Annotated[bool, typer.Option("--ascii", help="The app paints in plain ASCII.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Fine-tune a small chat model into a persona, watch it, and prove that it took."""
    where = Places(runs, host, mouse=not no_mouse, ascii=ascii)
    if ctx.invoked_subcommand is None and sys.stdin.isatty() and terminal.out().tty:
        from .commands.open_app import open_app  # Textual is for the app alone: commands start without it

        raise typer.Exit(open_app(where, Begin(show=where.find(show) if show else None)))
    if ctx.invoked_subcommand is None:
        terminal.err().line(HELP)
        raise typer.Exit(2)
    ctx.obj = where


_COMMANDS: list[Callable[..., None]] = [
    demo.demo,
    data.data,
    init.init,
    doctor.doctor,
    train.train,
    sweep.sweep,
    runs.runs,
    attach.attach,
    stop.stop,
    resume.resume,
    ask.ask,
    chat.chat,
    prove.prove,
    answers.answers,
    grade.grade,
    judge.judge,
    compare.compare,
    report.report,
    pack.pack,
    pack.unpack,
    push.push,
    export.export,
    vram.vram,
    host.host,
    merge.merge,
    bench.bench,
    serve.serve,
    why.why,
    needle.needle,
    draft.draft,
    curate.curate,
    generation.generation,
]
for _command in _COMMANDS:
    app.command()(_command)
app.command("import")(import_.import_)  # `import` is a word of Python
app.add_typer(model.app, name="model")
