"""The verb `ask`: questions to a run, answered by its base and by what it learned."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from engine.contract import calls
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir
from engine.contract.spec import Generation
from engine.contract.tomlwords import expected_of, shown_value

_OVERRIDES = ("max_new_tokens", "temperature", "top_p", "top_k", "repetition_penalty", "seed")


def ask(request: calls.AskRequest, tell: Callable[[calls.Line], None]) -> calls.Asked:
    """Answer every question with both voices. Raises MoltingError, code 2 for a request that cannot be meant."""
    questions = [question.strip() for question in request.questions]
    if not questions or not all(questions):
        raise MoltingError("There is no question to ask.", remedy="Give at least one, and no empty one.", code=2)
    tell(calls.Progress(phase="importing"))
    from .session import open_session  # takes seconds, which are shown

    session = open_session(RunDir(Path(request.run)), Path(request.models), tell)
    options = chosen_options(session.spec.generation, request)
    for warning in session.warnings:
        tell(calls.Note(text=warning))
    began = time.monotonic()
    pairs, _, mode = session.answer(questions, session.prompts(questions), options, tell)
    return calls.Asked(answers=pairs, seconds=time.monotonic() - began, mode=mode)


def chosen_options(own: Generation, request: calls.AskRequest | calls.WhyRequest) -> Generation:
    """The run's own generation settings with those that the request gives. MoltingError (code 2) out of range."""
    given = {name: getattr(request, name) for name in _OVERRIDES}
    given = {name: value for name, value in given.items() if value is not None}
    for name, value in given.items():
        try:
            msgspec.convert({name: value}, Generation)
        except msgspec.ValidationError:
            expected = expected_of(Generation, name)
            raise MoltingError(f"{name} cannot be {shown_value(value)}; expected {expected}.", code=2) from None
    return msgspec.convert(msgspec.to_builtins(own) | given, Generation)
