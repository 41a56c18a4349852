"""Language models of a server that the owner runs: vLLM, Ollama, llama.cpp's server, LM Studio, whatever speaks as OpenAI's.

The owner names the server; no address comes from a job. What a job may ask is what `inputs` takes, nothing is passed on
beside it, and the answer has the same shape as that of the built-in runner.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx
import msgspec

from pithead.agent.runners.answers import document, presentable
from pithead.agent.runners.base import Report, RunFailed, RunResult, Task
from pithead.agent.runners.inputs import TRIAL, Chat, parse
from pithead.wire.miners import Metrics

log = logging.getLogger(__name__)

#: Seconds to reach the server in; and between two of its words, of which the first may wait for the model to be loaded.
_CONNECT, _SILENCE = 10.0, 600.0
#: What an answer may have, in characters.
_LONGEST: Final = 64 << 20
#: Seconds between two reports of progress.
_TELL_EVERY: Final = 0.5


class Server(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A server, as its owner has it in `runners.toml`."""

    #: Up to and with the version: `http://127.0.0.1:8000/v1`.
    url: str
    #: The variable that holds the key, where the server wants one.
    key_env: str = ""
    #: Those of its models to offer; `None`: all that it names.
    models: list[str] | None = None


class Unanswered(Exception):
    """The server does not say which models it has."""


class OpenAI:
    """Runs chats and completions at one server. Make it with `discover`."""

    def __init__(self, server: Server, models: list[str], key: str = "") -> None:
        self._server, self._models, self._key = server, models, key

    @classmethod
    async def discover(cls, server: Server, environment: Mapping[str, str]) -> OpenAI:
        """With the models that it has now. Where it does not answer it has none, and that is said in the log."""
        runner = cls(server, [], environment.get(server.key_env, "") if server.key_env else "")
        try:
            found = await runner.named()
        except Unanswered as error:
            log.warning("%s does not name its models (%s): none of them is offered", server.url, error)
            return runner
        if server.models is not None:
            for missing in sorted(set(server.models) - set(found)):
                log.warning("%s has no model %s", server.url, missing)
            found = [model for model in found if model in server.models]
        runner._models = sorted(set(found))
        return runner

    async def named(self) -> list[str]:
        """The models that the server has now, all of them. Raises `Unanswered`."""
        try:
            async with self._client() as client:
                answer = await client.get("models")
                answer.raise_for_status()
            return [str(model["id"]) for model in answer.json()["data"]]
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
            raise Unanswered(str(error) or type(error).__name__) from None

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[httpx.AsyncClient]:
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        # Nobody's proxies, and no way on to where the owner did not point.
        async with httpx.AsyncClient(
            base_url=self._server.url.rstrip("/") + "/",
            headers=headers,
            timeout=httpx.Timeout(_SILENCE, connect=_CONNECT),
            trust_env=False,
            follow_redirects=False,
        ) as client:
            yield client

    def models(self) -> list[str]:
        """Those that it named, or the owner picked of them."""
        return list(self._models)

    def trial(self, model: str) -> Any:
        """A short chat."""
        return TRIAL

    def prepare(self, at_once: int) -> None:
        """The server has its own queue."""

    async def run(self, task: Task, report: Report) -> RunResult:
        """Answer the chat, or continue the text. When cancelled the connection is closed, on which servers stop."""
        request = parse(task.input)
        if task.model not in self._models:
            raise RunFailed("model_missing", f"this miner has no model {task.model!r}")
        body = msgspec.to_builtins(request) | {
            "model": task.model,
            "n": 1,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if not body["stop"]:
            # Some servers take an empty list for a fault.
            del body["stop"]
        path = "chat/completions" if isinstance(request, Chat) else "completions"
        began = time.monotonic()
        answer = _Answer(request.max_tokens, report)
        try:
            async with self._client() as client, client.stream("POST", path, json=body) as response:
                if response.status_code != 200:
                    raise _refused(response.status_code, await response.aread())
                async for line in response.aiter_lines():
                    if line.startswith("data:") and not answer.take(line.removeprefix("data:").strip()):
                        break
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise RunFailed("runner_missing", "this miner's model server does not answer") from None
        except httpx.HTTPError as error:
            raise RunFailed("error", f"the model server broke off: {type(error).__name__}") from None
        whole, seconds = answer.whole(), time.monotonic() - began
        metrics = Metrics(
            execution_time_seconds=seconds,
            gpu_time_seconds=seconds * task.gpu_count,
            prompt_tokens=whole["usage"]["prompt_tokens"],
            completion_tokens=whole["usage"]["completion_tokens"],
        )
        return RunResult(document(task.model, request, whole), metrics)

    async def close(self) -> None:
        """Nothing is kept between runs."""


class _Answer:
    """Puts an answer together from its pieces, which are OpenAI's chunks."""

    def __init__(self, most: int, report: Report) -> None:
        self._most, self._report = most, report
        self._pieces: list[str] = []
        self._size = self._tokens = 0
        #: How many of the pieces were shown.
        self._shown = 0
        self._finish_reason: str | None = None
        self._usage: dict[str, int] | None = None
        self._told = time.monotonic()

    def take(self, data: str) -> bool:
        """One piece; whether more may come. Raises `RunFailed`."""
        if data == "[DONE]":
            return False
        try:
            chunk: dict[str, Any] = json.loads(data)
            if "error" in chunk:
                raise RunFailed("error", presentable(f"the model server: {chunk['error']}"))
            if usage := chunk.get("usage"):
                names = ("prompt_tokens", "completion_tokens")
                self._usage = {name: int(usage[name]) for name in names}
                self._usage["total_tokens"] = sum(self._usage.values())
            for choice in chunk.get("choices") or ():
                self._add(choice["delta"].get("content") if "delta" in choice else choice.get("text"))
                self._finish_reason = choice.get("finish_reason") or self._finish_reason
        except (ValueError, KeyError, TypeError, AttributeError):
            raise RunFailed("error", "the model server answers with what is none of OpenAI's chunks") from None
        return True

    def _add(self, piece: str | None) -> None:
        if not piece:
            return
        self._pieces.append(piece)
        self._tokens += 1
        self._size += len(piece)
        if self._size > _LONGEST:
            raise RunFailed("error", "the model's answer is too long")
        if time.monotonic() - self._told > _TELL_EVERY:
            self._told = time.monotonic()
            self._tell(min(1.0, self._tokens / self._most))

    def _tell(self, fraction: float) -> None:
        self._report(fraction, f"{self._tokens} tokens", "".join(self._pieces[self._shown :]))
        self._shown = len(self._pieces)

    def whole(self) -> dict[str, Any]:
        """All of it. Raises `RunFailed` where it broke off: half an answer is none."""
        if self._finish_reason is None:
            raise RunFailed("error", "the model server stopped in the middle of its answer")
        # What came since the last word: whoever watches sees it whole.
        self._tell(1.0)
        usage = self._usage or {"prompt_tokens": 0, "completion_tokens": self._tokens, "total_tokens": self._tokens}
        return {"text": "".join(self._pieces), "finish_reason": self._finish_reason, "usage": usage}


def _refused(status: int, content: bytes) -> RunFailed:
    try:
        error = json.loads(content)["error"]
        said = str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError):
        said = "it says no more"
    reason = presentable(f"the model server answers {status}: {said}")
    # What it says of the key is between it and the owner.
    if status in (401, 403):
        return RunFailed("runner_missing", "this miner may not use its model server")
    kinds = {400: "bad_input", 404: "model_missing", 413: "bad_input", 422: "bad_input"}
    match kinds.get(status):
        case "bad_input":
            return RunFailed("bad_input", reason)
        case "model_missing":
            return RunFailed("model_missing", reason)
        case _:
            return RunFailed("error", reason)
