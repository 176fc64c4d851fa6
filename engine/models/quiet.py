"""Libraries that talk while they work: here they keep still, and bring no code of their own."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import sys
import warnings


def quiet_libraries() -> None:
    """Silence the chatter of transformers, peft and bitsandbytes; call it before they are used.

    Errors are still raised, as exceptions. Cheap to call again. Imports transformers.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if "kernels" not in sys.modules and importlib.util.find_spec("kernels") is not None:
        # At its import bitsandbytes would use `kernels` to download and run a compiled kernel from a hub.
        sys.modules["kernels"] = None  # type: ignore[assignment]
    # It tells at import what is not installed, and once per layer and answer what it casts.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    _import_uncompiled()
    from transformers.utils import logging as chatter

    chatter.set_verbosity_error()
    chatter.disable_progress_bar()
    warnings.filterwarnings("ignore", module=r"(transformers|peft|bitsandbytes|accelerate)\b")


def _import_uncompiled() -> None:
    """Import bitsandbytes, as peft and transformers would, without what it lets torch compile.

    That would import torch's compiler: a fifth of what a trainer imports, for functions that have compiled kernels.
    """
    if "bitsandbytes" in sys.modules:
        return
    import torch._dynamo  # noqa: F401  # reads the variable at its import too, for the whole process

    before = os.environ.get("TORCHDYNAMO_DISABLE")
    os.environ["TORCHDYNAMO_DISABLE"] = "1"
    try:
        with contextlib.suppress(Exception):  # who needs it will be told
            import bitsandbytes  # noqa: F401
    finally:
        if before is None:
            del os.environ["TORCHDYNAMO_DISABLE"]
        else:
            os.environ["TORCHDYNAMO_DISABLE"] = before
