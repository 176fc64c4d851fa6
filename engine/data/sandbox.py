"""Renders chat templates in a process of its own: `python -I sandbox.py`, JSON lines in and out.

A template comes with a model from a stranger. Jinja's sandbox keeps it from reaching Python, but not from looping
for ever or from building a string of 4 GB. Here the kernel stops it: CPU time per rendering by a timer whose
signal ends the process, memory by RLIMIT_AS. Nothing but the standard library and jinja2 is imported.

The environment equals the one of transformers (`utils/chat_template_utils.py`), so that the text does too.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any

import jinja2
import jinja2.ext
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

CPU_SECONDS = 5.0
MEMORY_BYTES = 512 << 20
OUTPUT_CHARS = 64 << 20


class _Generation(jinja2.ext.Extension):
    """`{% generation %}…{% endgeneration %}` marks learned text in some templates; here it only renders its body."""

    tags = {"generation"}

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Namespace(jinja2.utils.Namespace):
    """A namespace without underscore names, which would lead into Python."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, *rest = args  # so that `namespace(self=1)` works
        attributes = dict(*rest, **kwargs)
        for name in attributes:
            _public(name)
        jinja2.utils.Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _public(name)
        super().__setitem__(name, value)


class _Dict:
    """`dict(…)` and `dict.fromkeys(…)` without the attributes of the class."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


def _public(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError("a template cannot store names that begin with an underscore")


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    # Jinja's own filter escapes HTML, which models have never seen.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def compile_template(source: str, now: Callable[[], datetime] = datetime.now) -> jinja2.Template:
    """The template, in the environment of transformers. Raises jinja2.TemplateError."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals.update(
        raise_exception=_raise_exception,
        strftime_now=lambda format: now().strftime(format),
        dict=_Dict(),
        namespace=_Namespace,
    )
    return environment.from_string(source)


def _render(template: jinja2.Template, variables: dict[str, Any]) -> dict[str, str]:
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        text = template.render(**variables)
    except MemoryError:
        return {"limit": f"needed more than {MEMORY_BYTES >> 20} MiB of memory"}
    except Exception as error:  # whatever a stranger's template raises, it is the template's fault
        return {"error": f"{error}"[:500] or type(error).__name__}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    if len(text) > OUTPUT_CHARS:
        return {"limit": f"wrote more than {OUTPUT_CHARS >> 20} million characters"}
    return {"text": text}


def serve() -> None:
    """Read {source, now} once, then lists of variables; answer each list with a list of {text | error | limit}."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the engine, which closes our input
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    first = json.loads(sys.stdin.readline())
    moment = datetime.fromtimestamp(first["now"]) if first["now"] is not None else None
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)  # compiling evaluates constants, so it can hang too
    try:
        template = compile_template(first["source"], lambda: moment or datetime.now())
    except Exception as error:
        problem = {"error": f"it does not compile: {error}"[:500]}
        for line in sys.stdin:
            _answer([problem] * len(json.loads(line)))
        return
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    for line in sys.stdin:
        _answer([_render(template, variables) for variables in json.loads(line)])


def _answer(results: list[dict[str, str]]) -> None:
    sys.stdout.write(json.dumps(results) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    serve()
