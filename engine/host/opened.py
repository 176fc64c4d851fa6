"""What Open answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from engine.contract import calls, host
from engine.contract.rundir import RunDir
from engine.infer.warm import Warm

from .chat import speakers


def opened(request: host.Open, warm: Warm, tell: Callable[[calls.Line], None]) -> host.Opened:
    """Load all voices and describe the first one's run. Raises MoltingError where one cannot be had."""
    began = time.monotonic()
    told, mode, why = speakers(warm, request.voices, Path(request.run), Path(request.models), tell)
    first = told[0]
    loaded, spec = first.resident.loaded, first.spec
    config = first.resident.model.config.get_text_config()
    residents = {id(each.resident): each.resident for each in told}
    return host.Opened(
        id=request.id,
        run=RunDir(Path(request.run)).id,
        base=spec.model.base,
        system=first.encoder.system_prompt,
        generation=spec.generation,
        chat_template=first.encoder.template.source if first.encoder.template else "",
        window=int(getattr(config, "max_position_embeddings", None) or 0),
        device=loaded.device,
        precision=loaded.precision,
        quantization=loaded.quantization,
        mode=mode,
        why=why,
        weight_bytes=sum(each.loaded.weight_bytes for each in residents.values()),
        seconds=time.monotonic() - began,
        warnings=list(dict.fromkeys(sentence for each in told for sentence in each.warnings)),
    )
