"""What is said over HTTP, in OpenAI's shapes: https://platform.openai.com/docs/api-reference/chat."""

from __future__ import annotations

import secrets
from typing import Annotated, Any, Literal, Union

import msgspec
from msgspec import Meta

from engine.contract import host
from engine.contract.spec import Generation

MODELS: dict[str, Literal["base", "adapter"]] = {"base": "base", "adapter": "adapter"}
FINISH = {"end": "stop", "cap": "length", "stopped": "stop"}
_SEEDS = 1 << 31
# What would change the answer and is not done here: refused, where it asks for anything at all.
_UNSUPPORTED = ("tools", "functions", "logprobs", "top_logprobs", "logit_bias", "presence_penalty", "frequency_penalty")


class ApiError(Exception):
    """A refusal. `status` is of HTTP; the rest is OpenAI's `error` object."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code

    @property
    def body(self) -> dict[str, Any]:
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


class Part(msgspec.Struct):
    """A piece of a message; only text can be read here."""

    type: str
    text: str = ""


class Message(msgspec.Struct):
    role: Literal["system", "developer", "user", "assistant"]
    content: Union[str, list[Part], None] = None


class StreamOptions(msgspec.Struct):
    include_usage: bool = False


class Asked(msgspec.Struct):
    """A request for a chat completion. Values left out are those of the run; unknown ones are ignored."""

    model: str
    messages: Annotated[list[Message], Meta(min_length=1, max_length=1000)]
    stream: Union[bool, None] = None
    stream_options: Union[StreamOptions, None] = None
    temperature: Union[Annotated[float, Meta(ge=0.0, le=5.0)], None] = None
    top_p: Union[Annotated[float, Meta(gt=0.0, le=1.0)], None] = None
    max_tokens: Union[Annotated[int, Meta(ge=1, le=32_768)], None] = None
    max_completion_tokens: Union[Annotated[int, Meta(ge=1, le=32_768)], None] = None
    seed: Union[int, None] = None
    stop: Union[str, Annotated[list[Annotated[str, Meta(min_length=1)]], Meta(max_length=4)], None] = None
    n: Union[int, None] = None
    top_k: Union[Annotated[int, Meta(ge=0, le=1_000_000)], None] = None
    repetition_penalty: Union[Annotated[float, Meta(ge=0.5, le=5.0)], None] = None
    response_format: Union[dict[str, Any], None] = None
    tools: Any = None
    functions: Any = None
    logprobs: Any = None
    top_logprobs: Any = None
    logit_bias: Any = None
    presence_penalty: Any = None
    frequency_penalty: Any = None

    @property
    def stops(self) -> list[str]:
        """Texts at which the answer ends, themselves left out."""
        return [self.stop] if isinstance(self.stop, str) and self.stop else list(self.stop or [])

    @property
    def source(self) -> host.Source:
        return host.Source(kind=MODELS[self.model])

    def turns(self) -> list[host.Message]:
        """The conversation as the inference host takes it."""
        return [
            host.Message("system" if message.role == "developer" else message.role, _text(message))
            for message in self.messages
        ]

    def over(self, own: Generation) -> Generation:
        """The run's own parameters with what this request sets; without a seed, sampling differs each time."""
        given = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "repetition_penalty": self.repetition_penalty,
            "max_new_tokens": self.max_completion_tokens or self.max_tokens,
            "seed": secrets.randbelow(_SEEDS) if self.seed is None else self.seed % _SEEDS,
        }
        return msgspec.structs.replace(own, **{name: value for name, value in given.items() if value is not None})


def read(body: bytes) -> Asked:
    """The request in a body. Raises ApiError (400, 404) with a sentence for what cannot be meant or done."""
    try:
        asked = msgspec.json.decode(body, type=Asked)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"This is no chat completion request: {str(error)[:300]}.") from None
    if asked.model not in MODELS:
        known = " and ".join(MODELS)
        raise ApiError(
            404,
            f"The model {asked.model[:60]!r} does not exist; there are {known}.",
            param="model",
            code="model_not_found",
        )
    for name in _UNSUPPORTED:
        if getattr(asked, name):
            raise ApiError(400, f"{name} is not supported here.", param=name, code="unsupported_parameter")
    if asked.n not in (None, 1):
        raise ApiError(400, "One answer at a time: n must be 1.", param="n", code="unsupported_parameter")
    if asked.response_format and asked.response_format.get("type") != "text":
        message = "Only response_format text is supported here."
        raise ApiError(400, message, param="response_format", code="unsupported_parameter")
    return asked


def _text(message: Message) -> str:
    if not isinstance(message.content, list):
        return message.content or ""
    if any(part.type != "text" for part in message.content):
        raise ApiError(400, "Only text can be read here.", param="messages", code="unsupported_content")
    return "".join(part.text for part in message.content)


def usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def models(created: int, owner: str) -> list[dict[str, Any]]:
    return [{"id": name, "object": "model", "created": created, "owned_by": owner} for name in MODELS]


class Completion:
    """The frames of one answer: one object, or chunks of it."""

    def __init__(self, model: str, created: int) -> None:
        self.id = f"chatcmpl-{secrets.token_hex(12)}"
        self.model, self.created = model, created

    def whole(self, text: str, finish: str, used: dict[str, int]) -> dict[str, Any]:
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        return self._frame("chat.completion", [choice]) | {"usage": used}

    def chunk(self, delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return self._frame("chat.completion.chunk", [choice])

    def last(self, used: dict[str, int]) -> dict[str, Any]:
        """The chunk that follows the answer where usage was asked for."""
        return self._frame("chat.completion.chunk", []) | {"usage": used}

    def _frame(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model, "choices": choices}
