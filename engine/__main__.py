"""`python -I -m engine VERB`: how the app and the command line reach the engine.

Verbs that answer read one JSON request on stdin and write JSON lines on stdout (engine.contract.calls). `supervise`
and `trainer` are the long-lived processes of a run and take their run directory as an argument.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from engine.contract import bench, calls, curation, drafts, durable, generations, needle, outputs, rows, verdict
from engine.contract.errors import MoltingError
from engine.contract.safe import redact

# verb -> (module, function, request). Modules are imported when called: most verbs need no torch.
VERBS: dict[str, tuple[str, str, type]] = {
    "create": ("engine.train.start", "create", calls.CreateRequest),
    "sweep": ("engine.train.sweep", "sweep", calls.SweepRequest),
    "stop-job": ("engine.train.slurm", "stop", calls.StopJobRequest),
    "resume": ("engine.train.start", "resume", calls.RunRequest),
    "preflight": ("engine.checks.preflight", "preflight", calls.PreflightRequest),
    "model-check": ("engine.checks.repository", "model_check", calls.ModelCheckRequest),
    "demo-model": ("engine.models.verbs", "demo_model", calls.DemoModelRequest),
    "ask": ("engine.infer.ask", "ask", calls.AskRequest),
    "pack": ("engine.share.pack", "pack", outputs.PackRequest),
    "export": ("engine.share.trackers", "export", outputs.ExportRequest),
    "import-history": ("engine.share.history", "import_history", outputs.TrainerStateRequest),
    "unpack": ("engine.share.unpack", "unpack", outputs.UnpackRequest),
    "host-start": ("engine.host.start", "place", calls.HostRequest),
    "prove": ("engine.infer.prove", "prove", calls.RunRequest),
    "answers": ("engine.evaluate.answers", "answers", verdict.AnswersRequest),
    "prechecks": ("engine.evaluate.precheck", "prechecks", verdict.PrechecksRequest),
    "import": ("engine.evaluate.importing", "import_scores", verdict.ImportRequest),
    "cycle": ("engine.evaluate.summary", "cycle", verdict.CycleRequest),
    "compare": ("engine.evaluate.compare", "compare", verdict.CompareRequest),
    "judge": ("engine.evaluate.judge", "judge", verdict.JudgeRequest),
    "report": ("engine.evaluate.report", "report", verdict.ReportRequest),
    "data": ("engine.data.browse", "report", rows.DataRequest),
    "merge": ("engine.export.merge", "merge", outputs.MergeRequest),
    "bench": ("engine.bench.bench", "bench", bench.BenchRequest),
    "serve": ("engine.serve.serve", "serve", outputs.ServeRequest),
    "why": ("engine.infer.why", "why", calls.WhyRequest),
    "needle": ("engine.infer.needle", "needle", needle.NeedleRequest),
    "draft": ("engine.evaluate.draft", "draft", drafts.DraftRequest),
    "curate": ("engine.evaluate.curate", "curate", curation.CurateRequest),
    "generation": ("engine.train.next_generation", "generation", generations.GenerationRequest),
}

# Verbs that need a model: the inference host does them, with what it has in memory. They must be safe to repeat.
WARM = frozenset({"ask", "answers", "needle", "prove", "why", "curate"})

Tell = Callable[[calls.Line], None]


def main(argv: list[str]) -> int:
    os.umask(0o077)
    # Threads of torch that spin while they wait stand still as soon as anything else wants a core: measured on two
    # shared cores, 28 ms for what takes 6 when they sleep, and 60 beside a second trainer.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    verb = argv[0] if argv else ""
    if verb == "supervise" and len(argv) == 3:
        return import_module("engine.train.start").supervise(argv[1], argv[2])
    if verb == "trainer" and len(argv) == 3:
        return import_module("engine.train.attempt").main(argv[1], argv[2])
    if verb == "torchrun" and len(argv) == 4:
        return import_module("engine.train.torchrun").main(argv[1], argv[2], argv[3])
    if verb == "data-session":
        return import_module("engine.data.session").serve(sys.stdin.buffer, _private_stdout())
    if verb == "host" and len(argv) == 2:
        warm = {name: found for name, found in VERBS.items() if name in WARM}
        return import_module("engine.host.server").main(argv[1], warm)
    if verb not in VERBS:
        print("This is Molting's engine; people call `molting`.", file=sys.stderr)
        return 2
    return answer(verb, sys.stdin.buffer, _private_stdout())


def _private_stdout() -> BinaryIO:
    """Our own stdout; whatever libraries print there goes to stderr, so that the lines stay JSON."""
    ours = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return ours


def answer(verb: str, requests: BinaryIO, out: BinaryIO) -> int:
    """Serve one request; returns the exit status."""

    def tell(line: calls.Line) -> None:
        out.write(calls.encode_line(line))

    module, function, kind = VERBS[verb]
    try:
        line = requests.readline()
        request: Any = msgspec.json.decode(line, type=kind)
        if verb in WARM:
            said = import_module("engine.host.start").relay(verb, msgspec.Raw(line.strip()), tell)
            tell(said)
            return said.code if isinstance(said, calls.Failure) else 0
        value: Any = getattr(import_module(module), function)(request, tell)
        tell(calls.result(value))
        return 0
    except MoltingError as error:
        tell(calls.Failure(message=error.message, remedy=error.remedy, code=error.code))
        return error.code
    except Exception as error:
        log = _log(error)
        message = f"The engine failed at `{verb}`: {type(error).__name__}: {redact(str(error))[:300]}"
        tell(calls.Failure(message=message, remedy=f"The whole story is in {log}.", code=3, log=log))
        return 3


def _log(error: Exception) -> str:
    """A private file that holds the traceback; its path."""
    text = redact("".join(traceback.format_exception(error)))
    path = Path(tempfile.mkdtemp(prefix="molting-")) / "engine-error.txt"
    durable.write_new(path, text.encode("utf-8", "replace"))
    return str(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
