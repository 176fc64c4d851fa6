"""What can go wrong with a hub, in sentences that name it and never a token."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from engine.contract.errors import MoltingError
from engine.contract.safe import redact


class Unreachable(MoltingError):
    """The hub did not answer; what is on this machine may still do."""

    def __init__(self, message: str) -> None:
        super().__init__(message, remedy="Check the network; the same command goes on where it stopped.")


def endpoint() -> str:
    """Host and port of the hub in use, without the user and password an address may carry."""
    from huggingface_hub import constants

    parts = urlsplit(constants.ENDPOINT)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)


@contextlib.contextmanager
def in_sentences(repo: str, revision: str) -> Iterator[None]:
    """The hub's errors as MoltingError. None of their texts is passed on whole: an address may carry a token."""
    from huggingface_hub import errors

    at = f" at {revision[:40]}" if revision else ""
    try:
        yield
    except MoltingError:
        raise
    except errors.GatedRepoError as error:
        raise MoltingError(
            f"{repo} is gated: its owner must let you in.",
            remedy=f"Ask for access on its page at {endpoint()}, then set HF_TOKEN or run `hf auth login`.",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise MoltingError(
            f"{repo} has no revision {revision[:60]!r}.", remedy="Leave it out for the newest.", code=2
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise MoltingError(
            f"The hub at {endpoint()} shows no model {repo}.",
            remedy="Check the spelling; for a private one set HF_TOKEN or run `hf auth login`.",
            code=2,
        ) from error
    except errors.HfHubHTTPError as error:
        status = _status(error)
        if status == 401:
            raise MoltingError(
                f"The hub at {endpoint()} refused the token for {repo}.",
                remedy="Set a valid HF_TOKEN, or run `hf auth login`.",
            ) from error
        raise Unreachable(f"The hub at {endpoint()} answered {status} for {repo}{at}.") from error
    except (errors.OfflineModeIsEnabled, errors.HTTPError, TimeoutError) as error:
        raise Unreachable(f"The hub at {endpoint()} cannot be reached for {repo}{at}.") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise Unreachable(f"Downloading {repo}{at} was cut short: {redact(str(error))[:200]}") from error


def _status(error: Any) -> int:
    return int(getattr(getattr(error, "response", None), "status_code", 0) or 0)
