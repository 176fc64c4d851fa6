"""The verb `merge`: base and adapter become one 16-bit model in a folder, proven before it gets its name.

It works in a process of its own on models of its own: what the inference host keeps warm stays as it is.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import msgspec

from engine.contract import calls, durable, outputs, summary
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir
from engine.contract.spec import Spec
from engine.models.build import LoadOptions
from engine.models.files import disk_errors
from engine.models.quantized import is_quantized

from . import gguf

SPARE = 1.05  # of the weights, for what stands beside them

Tell = Callable[[calls.Line], None]


def merge(request: outputs.MergeRequest, tell: Tell) -> outputs.Merged:
    """Merge a run into `request.to`, which appears whole, sealed and proven, or not at all.

    Raises MoltingError: code 2 for a run that has nothing to merge and a name that is taken, code 1 for a failed
    proof, oom_host, oom_cuda and disk_full where it will not fit.
    """
    run, target = RunDir(Path(request.run)), Path(request.to)
    spec = summary.load_spec(run)
    if spec.method.kind == "full":
        raise MoltingError(
            f"{run.id} was fully fine-tuned: its weights are a whole model already, so there is nothing to merge.",
            remedy=f"They lie in {run.adapter}.",
            code=2,
        )
    if target.exists() or target.is_symlink():
        raise MoltingError(f"{target} exists already.", remedy="Give another name (`--to`), or move it away.", code=2)
    tell(calls.Progress(phase="importing"))
    from engine.infer.session import base_folder, trained_weights  # takes seconds, which are shown

    learned, warnings = trained_weights(run, request.checkpoint)
    folder, notes = base_folder(spec, Path(request.models), tell)
    options = plain_options(spec, folder)
    _require_room(folder, options, target, copies=2 if request.gguf else 1)
    for note in (*notes, *warnings, *_said(spec)):
        tell(calls.Note(text=note))
    with _staging(target) as staging, disk_errors(target.parent):
        return _make(Job(run, spec, folder, learned, options, staging, target), request, tell)


class Job(msgspec.Struct, frozen=True):
    """What is merged, and where it grows."""

    run: RunDir
    spec: Spec
    folder: Path
    learned: Path
    options: LoadOptions
    staging: Path
    target: Path


def _make(job: Job, request: outputs.MergeRequest, tell: Tell) -> outputs.Merged:
    from engine.data.of_spec import encoder_for

    from . import card, modelfile
    from .proof import prove
    from .weights import save_merged

    began = time.monotonic()
    encoder = encoder_for(job.spec, job.folder)
    save_merged(job, encoder, tell)
    proof = prove(job, encoder, tell)
    if not proof.passed:
        raise MoltingError(
            f"The merged model is not the adapter, so nothing was exported. {proof.sentence}",
            remedy="Use the adapter beside its base, or train in a higher precision.",
            code=1,
        )
    notes = []
    made = ""
    if request.gguf:
        made, note = gguf.convert(job.staging, job.run.id, tell)
        notes += [note] if note else []
    ollama = modelfile.modelfile(encoder, job.spec, weights=made or ".")
    notes += ollama.notes
    write(job.staging / "Modelfile", ollama.text)
    write(job.staging / "README.md", card.card(job, encoder, proof, gguf=made))
    write(job.staging / "proof.json", msgspec.json.format(msgspec.json.encode(proof), indent=1).decode() + "\n")
    tell(calls.Progress(phase="sealing"))
    durable.seal(job.staging, job.target, run=job.run.id)
    files = [file for file in job.target.rglob("*") if file.is_file()]
    return outputs.Merged(
        run=job.run.id,
        path=str(job.target),
        size=sum(file.stat().st_size for file in files),
        files=len(files),
        precision="fp16" if job.options.precision == "fp16" else "bf16",
        gguf=made,
        proof=proof,
        seconds=time.monotonic() - began,
        notes=notes,
    )


def write(path: Path, text: str) -> None:
    """A text file of the export; it is made durable when the folder is sealed."""
    path.write_text(text, encoding="utf-8", errors="replace")


def plain_options(spec: Spec, folder: Path) -> LoadOptions:
    """How the base is loaded for merging: never quantised, in 16 bits. Raises MoltingError for a quantised folder."""
    from engine.infer.session import load_options

    if is_quantized(folder):
        raise MoltingError(
            f"The weights of {spec.model.base} are quantised themselves; merged into them, the adapter would be lost "
            "in rounding.",
            remedy="Train on the original weights of this model, then merge.",
            reason="bad_model",
        )
    precision = "fp16" if spec.model.precision == "fp16" else "bf16"
    return msgspec.structs.replace(load_options(spec, quantized=False), precision=precision)


def _said(spec: Spec) -> Iterator[str]:
    if spec.method.kind == "qlora":
        yield (
            "The run was trained on a 4-bit base; it is merged into the original 16-bit weights, not into the "
            "quantised ones."
        )
    if spec.model.precision == "fp32":
        yield "The run was trained in fp32; the merged model is saved in bf16."


def _require_room(folder: Path, options: LoadOptions, target: Path, *, copies: int) -> None:
    """Raise MoltingError where memory (for the merged model and the adapter's beside it) or the disk will not do."""
    from engine.infer import fit

    fit.make_room(folder, options, "a merge starts", copies=2)
    wanted, free = round(SPARE * copies * fit.needed(folder, options)), durable.free_bytes(target.parent)
    if wanted > free:
        raise MoltingError(
            f"The merged model needs about {wanted / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free in {target.parent}.",
            remedy="Free space there, or give a folder on another disk with --to.",
            reason="disk_full",
        )


@contextlib.contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """A folder beside `target`, on its disk, that is gone afterwards whatever happens, SIGTERM included."""
    durable.make_private_dir(target.parent)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))

    def leave(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield staging
    except OSError as error:
        raise durable.explain(error, "write the merged model") from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        shutil.rmtree(staging, ignore_errors=True)
