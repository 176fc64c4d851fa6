"""One question to several voices: who can share a batch does, and every token goes out as it comes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from transformers import DynamicCache

from engine.contract import calls, host, summary
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir
from engine.contract.spec import Generation, Spec
from engine.data.conversation import BadRow, Turn
from engine.data.encode import Encoder
from engine.infer.effect import divergence
from engine.infer.generate import Generated, answering, generate
from engine.infer.prefix import pieces
from engine.infer.session import base_folder, load_options, open_session, trained_weights
from engine.infer.voices import Voices, first_difference
from engine.infer.warm import Resident, Warm
from engine.train.batch import shared_length, unpackable

from .stream import TextStream

BASE = "__base__"  # PEFT's name for rows without an adapter
Say = Callable[[host.Reply], None]
Tell = Callable[[calls.Line], None]


@dataclass(frozen=True)
class Speaker:
    """A source that is in memory. `adapter`: its name on the model, BASE, or None for a model that has none.

    `shares` tells whether its rows may stand in one batch with those of other speakers of the same model.
    """

    spec: Spec
    encoder: Encoder
    resident: Resident
    adapter: str | None
    shares: bool
    warnings: tuple[str, ...]

    @property
    def group(self) -> tuple[Any, ...]:
        """Speakers of one group answer in one batch."""
        alone = () if self.shares else (self.adapter,)
        return (id(self.resident), tuple(self.encoder.stop_ids), *alone)


def speaker(warm: Warm, source: host.Source, own: Path, models: Path, tell: Tell) -> Speaker:
    """Load what a source needs. Raises MoltingError where it is not there or does not fit."""
    run = RunDir(Path(source.run) if source.run else own)
    spec = summary.load_spec(run)
    cache = models / ".quantized"
    full = spec.method.kind == "full"

    def progress(phase: str, done: float | None = None, total: float | None = None) -> None:
        tell(calls.Progress(phase=phase, done=done or 0.0, total=total or 0.0))

    if source.kind == "adapter":
        session = open_session(run, models, tell, checkpoint=source.checkpoint)
        resident = next(each for each in warm.residents if each.model is session.voices.tuned)
        adapter = None if full else session.voices.adapter
        return Speaker(spec, session.encoder, resident, adapter, session.voices.mixes, tuple(session.warnings))
    folder, notes = base_folder(spec, models, tell)
    encoder = warm.encoder(spec, folder)
    if source.kind == "base":
        resident = warm.base(folder, load_options(spec), cache, progress, use="full" if full else "")
        wrapped = bool(resident.adapters)
        return Speaker(spec, encoder, resident, BASE if wrapped else None, wrapped and not full, tuple(notes))
    if full:
        raise MoltingError(f"{run.id} was fully fine-tuned: it has no adapter that could be merged.", code=2)
    learned, warnings = trained_weights(run, source.checkpoint)
    plain = load_options(spec, quantized=False)
    resident = warm.merged(folder, plain, learned, cache, progress)
    return Speaker(spec, encoder, resident, None, False, (*notes, *warnings))


def speakers(
    warm: Warm, sources: Sequence[host.Source], run: Path, models: Path, tell: Tell
) -> tuple[list[Speaker], host.Mode, str]:
    """All sources in memory, how they will answer, and a sentence where not in one batch."""
    # Adapters first: they turn the plain base into one that can hold both.
    order = sorted(range(len(sources)), key=lambda index: sources[index].kind != "adapter")
    found = {index: speaker(warm, sources[index], run, models, tell) for index in order}
    told = [found[index] for index in range(len(sources))]
    if len({each.group for each in told}) <= 1:
        return told, "batched", ""
    return told, "two-pass", _why(told)


def _why(told: Sequence[Speaker]) -> str:
    if len({id(each.resident) for each in told}) > 1:
        return "The voices are different models in memory, so they answer one after the other."
    if len({tuple(each.encoder.stop_ids) for each in told}) > 1:
        return "The voices end their answers with different tokens, so they answer one after the other."
    return "This kind of adapter cannot share a batch with its base, so the voices answer one after the other."


class Conversation:
    """Answers one Chat request."""

    def __init__(self, request: host.Chat, warm: Warm, say: Say, tell: Tell) -> None:
        self.request, self.say = request, say
        sources = [voice.source for voice in request.voices]
        self.speakers, self.mode, self.why = speakers(warm, sources, Path(request.run), Path(request.models), tell)
        self.options = request.options or self._own_options()
        self.prompts = [_prompt(one, voice) for one, voice in zip(self.speakers, request.voices, strict=True)]
        self.made: dict[int, Generated] = {}
        self.texts: dict[int, str] = {}
        self.first: dict[int, torch.Tensor] = {}
        self.kl: list[float | None] = [None] * len(self.prompts)

    def _own_options(self) -> Generation:
        return summary.load_spec(RunDir(Path(self.request.run))).generation

    def answer(self) -> host.Done:
        """All voices to their ends. Raises MoltingError, as for a prompt that fills the model's window."""
        began = time.monotonic()
        lengths = [len(prompt) for prompt in self.prompts]
        self.say(
            host.Began(id=self.request.id, mode=self.mode, why=self.why, prompt_tokens=lengths, options=self.options)
        )
        for voices in self._groups():
            self._together(voices)
        base = self.made[0].ids
        return host.Done(
            id=self.request.id,
            mode=self.mode,
            seconds=time.monotonic() - began,
            first_difference=[first_difference(base, self.made[voice].ids) for voice in range(len(self.prompts))],
            kl=self.kl,
            stopped=any(made.stop == "stopped" for made in self.made.values()),
        )

    def go_on(self, waits: Callable[[], bool]) -> None:
        """While its reader reads: compute what the next question begins with, if each voice keeps its own history.

        Ends early when somebody `waits`. What is not ready then is computed with the question, to the same bits.
        """
        for voice, text in self.texts.items():
            if waits() or not text.strip():
                return
            asked = self.request.voices[voice]
            said = [*asked.messages, host.Message("assistant", text), host.Message("user", "a")]
            asked = msgspec.structs.replace(asked, messages=said)
            with contextlib.suppress(MoltingError):  # the template refuses so short a question
                self._begin(voice, asked, _prompt(self.speakers[voice], asked))

    def _begin(self, voice: int, asked: host.Voice, prompt: list[int]) -> DynamicCache:
        """What is known of a voice's prompt before its question; nothing where that would not give the same."""
        one, cap = self.speakers[voice], self.options.max_new_tokens
        model = one.resident.model
        config = model.config.get_text_config()
        window = getattr(config, "max_position_embeddings", None) or len(prompt) + 1
        # The batch may be as wide as the longest beginning and the longest question together, of different rows.
        width = 2 * max(len(prompt), *map(len, self.prompts)) + cap
        same = len(prompt) < window and not unpackable(config, width)
        ends = _ends(one, asked, prompt) if same else ()

        @contextlib.contextmanager
        def speaking() -> Iterator[None]:
            with answering(model), _as(model, one.adapter):
                yield

        return one.resident.prefixes.begin(model, one.adapter or "", prompt, ends, speaking)

    def _groups(self) -> Iterator[list[int]]:
        groups: dict[tuple[Any, ...], list[int]] = {}
        for voice, one in enumerate(self.speakers):
            groups.setdefault(one.group, []).append(voice)
        yield from groups.values()

    def _together(self, voices: list[int]) -> None:
        """One batch: the rows of `voices`, numbers of the request's voices."""
        some = [self.speakers[voice] for voice in voices]
        model = some[0].resident.model
        rows = [_Row(self, voice) for voice in voices]
        mixed = len({one.adapter for one in some}) > 1
        settings: dict[str, Any] = {
            "stop_ids": some[0].encoder.stop_ids,
            "pad_id": some[0].encoder.stop_ids[0],
            "options": self.options,
            "adapters": [one.adapter for one in some] if mixed else None,
            "on_token": lambda row, token: rows[row].hear(token),
            "on_first": lambda logits: self._compare(voices, logits),
            "begun": [self._begin(voice, self.request.voices[voice], self.prompts[voice]) for voice in voices],
        }
        with _as(model, None if mixed else some[0].adapter):
            made = generate(model, [self.prompts[voice] for voice in voices], **settings)
        for row, generated in zip(rows, made, strict=True):
            row.end(generated)

    def _compare(self, voices: list[int], logits: torch.Tensor) -> None:
        scores = logits.detach().float().cpu().log_softmax(dim=1)
        self.first |= dict(zip(voices, scores, strict=True))
        if len(self.first) < len(self.prompts):
            return
        base = self.first[0][None]
        for voice, prompt in enumerate(self.prompts):
            if prompt == self.prompts[0] and self.first[voice].shape == self.first[0].shape:
                # Rounding may leave a tiny negative number.
                self.kl[voice] = max(0.0, float(divergence(base, self.first[voice][None])[0]))
        self.say(host.First(id=self.request.id, kl=self.kl))


class _Row:
    """One voice's answer while it comes."""

    def __init__(self, conversation: Conversation, voice: int) -> None:
        self.of, self.voice = conversation, voice
        encoder = conversation.speakers[voice].encoder
        self.stops = frozenset(encoder.stop_ids)
        self.stream = TextStream(lambda ids: encoder.tokenizer.decode(list(ids), skip_special_tokens=False))
        self.pieces: list[str] = []
        self.tokens, self.to_first, self.seconds, self.ended = 0, 0.0, 0.0, False
        self.began = time.monotonic()

    def hear(self, token: int) -> None:
        self.tokens += 1
        self.seconds = time.monotonic() - self.began
        self.to_first = self.to_first or self.seconds
        ends = token in self.stops
        self._write(self.stream.finish() if ends else self.stream.push(token), [token])
        if ends:
            self._done("end")

    def end(self, made: Generated) -> None:
        self.of.made[self.voice] = made
        if self.ended:
            return
        rest = self.stream.finish()
        if rest:
            self._write(rest, [])
        self._done(made.stop)

    def _write(self, text: str, ids: list[int]) -> None:
        self.pieces.append(text)
        self.of.say(host.Delta(id=self.of.request.id, voice=self.voice, text=text, ids=ids, tokens=self.tokens))

    def _done(self, stop: Any) -> None:
        self.ended = True
        self.of.texts[self.voice] = "".join(self.pieces)
        self.of.say(
            host.VoiceDone(
                id=self.of.request.id,
                voice=self.voice,
                text=self.of.texts[self.voice],
                stop=stop,
                tokens=self.tokens,
                to_first=self.to_first,
                seconds=self.seconds,
            )
        )


def _as(model: Any, adapter: str | None) -> Any:
    """The model as one voice for a whole batch, or as all of them (None)."""
    if adapter is None:
        return contextlib.nullcontext()
    voices = Voices(model, name=adapter)
    return voices.as_base() if adapter == BASE else voices.as_tuned()


def _prompt(one: Speaker, voice: host.Voice) -> list[int]:
    turns = [Turn(message.role, message.content) for message in voice.messages]
    if turns[-1].role == "assistant":
        raise MoltingError("The last turn is an answer, so there is nothing to answer.", code=2)
    try:
        return one.encoder.prompt_ids(turns, system=voice.system)
    except BadRow as bad:
        raise MoltingError(f"This conversation cannot be asked: {bad.why}.", code=2) from bad


def _ends(one: Speaker, asked: host.Voice, prompt: list[int]) -> tuple[int, ...]:
    """How many tokens of a prompt come before each of its questions: what does not change with that question."""
    turns = [Turn(message.role, message.content) for message in asked.messages]
    found = []
    for index in (index for index, turn in enumerate(turns) if turn.role == "user"):
        with contextlib.suppress(BadRow):  # a template that refuses so short a question
            some, other = (
                one.encoder.prompt_ids([*turns[:index], Turn("user", letter)], system=asked.system) for letter in "az"
            )
            found.append(shared_length(prompt, some[: shared_length(some, other)]))
    return pieces(prompt, found)
