"""The process that has a model loaded: `python -m pithead.agent.runners.llama_child`, started by `llama.py`.

Native code may crash, leak or hang; here it can do so without taking the agent and its heartbeats along. One model, one
run at a time. What is said over the channel:

    in   {"model": path, "context": tokens, "threads": n, "gpu_layers": n}     once
    out  {"ready": true, "gpu": bool}  |  {"error": text, "kind": kind}
    in   {"chat": bool, "body": {…}}                                           any number of times
    out  {"tokens": n, "text": what came since the last one}                   now and then
    out  {"answer": {"text", "finish_reason", "usage"}}  |  {"error": text, "kind": kind}
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any, Final

from pithead.agent.runners.channel import Say, opened

#: Seconds between two words about progress.
_TELL_EVERY: Final = 0.5


def main() -> None:
    """Serve until the input ends, or the parent does."""
    requests, say = opened()
    server = _load(requests.get(), say)
    while server is not None:
        request = requests.get()
        _run(server, chat=request["chat"], body=request["body"], say=say)
    # Without the native destructors, which have been seen to hang.
    sys.stderr.flush()
    os._exit(1)


def _load(settings: dict[str, Any], say: Say) -> Any:
    """The loaded model, or `None` after saying why not."""
    try:
        import xllamacpp
    except ImportError as error:
        say({"error": f"xllamacpp cannot be loaded: {error}", "kind": "runner_missing"})
        return None
    params = xllamacpp.CommonParams()
    params.model.path = settings["model"]
    params.n_ctx = settings["context"]
    params.n_gpu_layers = settings["gpu_layers"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings["threads"]
    params.n_parallel = 1
    params.n_threads_http = 1
    params.verbosity = -1
    params.warmup = params.ui = params.endpoint_slots = False
    # Nothing of one job may be seen in, or change, the next.
    params.cache_prompt = False
    params.cache_ram_mib = 0
    params.reasoning_format = xllamacpp.common_reasoning_format.COMMON_REASONING_FORMAT_NONE
    # A relative name, in the folder that is the parent's care: the length of a socket's path is bounded.
    params.hostnames = ["llama.sock"]
    try:
        server = xllamacpp.Server(params)
    except Exception as error:
        say({"error": f"the model cannot be loaded: {error}", "kind": "error"})
        return None
    os.chdir("/")
    accelerators = [device for device in xllamacpp.get_device_info() if "GPU" in str(device["type"])]
    say({"ready": True, "gpu": bool(accelerators) and settings["gpu_layers"] != 0})
    return server


def _run(server: Any, *, chat: bool, body: dict[str, Any], say: Say) -> None:
    answer = _Answer(say)
    call = server.handle_chat_completions if chat else server.handle_completions
    try:
        call(body | {"stream": True, "stream_options": {"include_usage": True}}, answer.take)
    except Exception as error:
        answer.error = answer.error or {"message": str(error)}
    say(answer.frame())


class _Answer:
    """Puts an answer together from its pieces."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._pieces: list[str] = []
        self._finish_reason: str | None = None
        self._usage: dict[str, Any] | None = None
        self._tokens, self._told = 0, time.monotonic()
        #: How many of the pieces were shown.
        self._shown = 0
        self.error: dict[str, Any] | None = None

    def take(self, chunk: dict[str, Any]) -> None:
        """One piece; llama.cpp's `error` objects come this way too."""
        if "error" in chunk:
            self.error = chunk["error"]
        self._usage = chunk.get("usage") or self._usage
        for choice in chunk.get("choices", ()):
            piece = choice["delta"].get("content") if "delta" in choice else choice.get("text")
            self._finish_reason = choice.get("finish_reason") or self._finish_reason
            if piece:
                self._pieces.append(piece)
                self._tokens += 1
        if time.monotonic() - self._told > _TELL_EVERY:
            self._told = time.monotonic()
            self._say({"tokens": self._tokens, "text": "".join(self._pieces[self._shown :])})
            self._shown = len(self._pieces)

    def frame(self) -> dict[str, Any]:
        """What to say of it."""
        if self.error is not None:
            bad = self.error.get("code") == 400
            return {"error": str(self.error.get("message", "")), "kind": "bad_input" if bad else "error"}
        if self._usage is None or self._finish_reason is None:
            return {"error": "the model stopped in the middle of its answer", "kind": "error"}
        names = ("prompt_tokens", "completion_tokens", "total_tokens")
        usage = {name: int(self._usage[name]) for name in names}
        return {"answer": {"text": "".join(self._pieces), "finish_reason": self._finish_reason, "usage": usage}}


if __name__ == "__main__":
    main()
