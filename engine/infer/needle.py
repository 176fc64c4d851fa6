"""A fact is planted in a long text, and asked for: greedy recall by length and depth, of base and adapter.

After "Needle in a haystack" (G. Kamradt, 2023, https://github.com/gkamradt/LLMTest_NeedleInAHaystack). The text is
made of plain sentences in a seeded order; the fact is a number that no model can guess.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from engine.contract import calls
from engine.contract.errors import MoltingError
from engine.contract.needle import Length, Needle, NeedleRequest, Planted
from engine.contract.rundir import RunDir
from engine.contract.spec import Generation

CAP = 24  # tokens of an answer
_SENTENCES = (
    "The ferry left the harbour a little after seven.",
    "Someone had painted the door of the bakery green.",
    "In the evening the wind turned and the windows rattled.",
    "Two dogs slept in the shade of the old wall.",
    "The clock in the square was slow, and nobody minded.",
    "A boy carried a basket of pears up the hill.",
    "Later it rained, and the street smelled of dust.",
    "The library closes early on Wednesdays.",
    "Along the river the grass had not been cut.",
    "She folded the letter and put it under the lamp.",
)
_FACT = "The number of the locker in the lighthouse is {number}."
_QUESTION = "What is the number of the locker in the lighthouse? Answer with the number."

Tell = Callable[[calls.Line], None]
Tokens = Callable[[str], int]  # of the whole prompt that asks a question


def needle(request: NeedleRequest, tell: Tell) -> Needle:
    """Ask at every length and depth. MoltingError as `open_session` raises it."""
    tell(calls.Progress(phase="importing"))
    from engine.models.rope import window  # takes seconds, which are shown

    from .session import open_session

    session = open_session(RunDir(Path(request.run)), Path(request.models), tell)
    holds = window(session.voices.tuned.config.get_text_config()) or 0
    spec = session.spec
    trained = min(spec.data.max_length, holds or spec.data.max_length)
    greedy = Generation(max_new_tokens=CAP)
    steps, done = [(times, depth) for times in request.times for depth in request.depths], 0
    found = {times: Length(times=times, tokens=times * trained) for times in request.times}
    for times, depth in steps:
        tell(calls.Progress(phase="answering", done=done, total=len(steps), unit="questions"))
        done += 1
        length = found[times]
        if holds and length.tokens > holds:
            length.problem = f"beyond the {holds:,} tokens that the model takes"
            continue
        number = str(random.Random(f"{times}/{depth}").randrange(10_000, 100_000))
        try:
            question = planted(length.tokens - CAP, depth, number, lambda said: len(session.prompts([said])[0]))
            prompts = session.prompts([question])
            (pair,), _, _ = session.answer([question], prompts, greedy, lambda line: None)
        except MoltingError as error:
            length.problem = error.message
            continue
        length.planted.append(_judged(depth, len(prompts[0]), number, pair))
    rope = spec.model.rope
    said = "" if rope.type == "none" else f"{rope.type} x {rope.factor:g}"
    return Needle(trained=trained, window=holds, rope=said, lengths=list(found.values()), warnings=session.warnings)


def planted(tokens: int, depth: float, number: str, count: Tokens) -> str:
    """A text of at most `tokens` with its question, in which the fact stands at `depth`.

    Raises MoltingError (code 2) where question and fact alone are longer.
    """
    order = random.Random(number)

    def text(sentences: int) -> str:
        told = [order_of[i % len(order_of)] for i in range(sentences)]
        told.insert(round(depth * sentences), _FACT.format(number=number))
        return " ".join(told) + f"\n\n{_QUESTION}"

    order_of = [sentence for _ in range(50) for sentence in order.sample(_SENTENCES, len(_SENTENCES))]
    if count(text(0)) > tokens:
        raise MoltingError(f"{tokens} tokens hold not even the fact and its question.", code=2)
    fits, exceeds = 0, max(2, tokens)  # a sentence has more than one token
    while exceeds - fits > 1:
        middle = (fits + exceeds) // 2
        fits, exceeds = (middle, exceeds) if count(text(middle)) <= tokens else (fits, middle)
    return text(fits)


def _judged(depth: float, tokens: int, number: str, pair: calls.Pair) -> Planted:
    base, adapter = pair.base.text, pair.adapter.text
    return Planted(
        depth=depth,
        tokens=tokens,
        base=number in base,
        adapter=number in adapter,
        base_answer=base,
        adapter_answer=adapter,
    )
