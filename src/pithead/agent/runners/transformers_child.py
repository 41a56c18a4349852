"""The process that has a pipeline loaded: `python -m pithead.agent.runners.transformers_child`, started by `transformers.py`.

One pipeline, one run at a time. What is said over the channel:

    in   {"path", "task", "device", "threads"}                       once
    out  {"ready": true}  |  {"error": text, "kind": kind}
    in   {"texts": [text], "parameters": {…}}                        any number of times
    out  {"outputs": [of each text], "prompt_tokens", "completion_tokens"}  |  {"error": text, "kind": kind}
"""

from __future__ import annotations

import os
import sys
from typing import Any, Final

from pithead.agent.runners.channel import opened

#: What tokenizers say that know no length.
_NO_LENGTH: Final = 1_000_000
#: By how many tokens a text may grow with what the task puts around it.
_AROUND: Final = 8


class _Refused(Exception):
    """The input is no good for this model."""


def main() -> None:
    """Serve until the input ends, or the parent does."""
    requests, say = opened()
    try:
        pipeline = _Pipeline(**requests.get())
    except ImportError as error:
        say({"error": f"transformers cannot be loaded: {error}", "kind": "runner_missing"})
    except Exception as error:
        say({"error": f"the model cannot be loaded: {error}", "kind": "error"})
    else:
        say({"ready": True})
        while True:
            request = requests.get()
            try:
                say(pipeline.run(request["texts"], request["parameters"]))
            except _Refused as refused:
                say({"error": str(refused), "kind": "bad_input"})
            except Exception as error:
                # PyTorch's own is of another class for each kind of device.
                memory = isinstance(error, MemoryError) or "out of memory" in str(error).lower()
                say({"error": f"{type(error).__name__}: {error}", "kind": "out_of_memory" if memory else "error"})
    # Without the native destructors, which may hang.
    sys.stderr.flush()
    os._exit(1)


class _Pipeline:
    """A pipeline of transformers', on texts that were looked at before."""

    def __init__(self, path: str, task: str, device: str, threads: int) -> None:
        import torch
        import transformers

        torch.set_num_threads(threads)
        self._transformers, self._task = transformers, task
        # A folder, never a name that a hub could resolve; no pickles, and no code that lies beside the weights.
        self._pipe: Any = transformers.pipeline(
            task,
            model=os.path.join(path, ""),  # noqa: PTH118 (with its separator it cannot be taken for a name)
            device=device,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
        )
        self._tokenizer: Any = self._pipe.tokenizer
        config: Any = self._pipe.model.config
        lengths = (getattr(config, "max_position_embeddings", None), getattr(self._tokenizer, "model_max_length", None))
        #: In tokens; `None` where the model does not say.
        self._longest = min((length for length in lengths if length and length < _NO_LENGTH), default=None)

    def run(self, texts: list[str], parameters: dict[str, Any]) -> dict[str, Any]:
        """The answer, as a frame. Raises `_Refused`."""
        if self._task == "fill-mask":
            # One word for all models.
            texts = [text.replace("<mask>", self._tokenizer.mask_token) for text in texts]
            if any(text.count(self._tokenizer.mask_token) != 1 for text in texts):
                raise _Refused("inputs: each text must have one <mask>")
        counts = [len(self._tokenizer.encode(text)) for text in texts]
        generation = self._task == "text-generation"
        more = parameters["max_new_tokens"] if generation else _AROUND if "candidate_labels" in parameters else 0
        if self._longest is not None and max(counts) + more > self._longest:
            raise _Refused(
                f"inputs: {max(counts)} tokens{f' and {more} more' if more else ''}; the model has {self._longest}"
            )
        if generation:
            made = [self._generated(text, **parameters) for text in texts]
            outputs = [{"generated_text": self._tokenizer.decode(new, skip_special_tokens=True)} for new in made]
        else:
            made, outputs = [], [self._of(text, parameters) for text in texts]
        return {"outputs": outputs, "prompt_tokens": sum(counts), "completion_tokens": sum(map(len, made))}

    def _generated(self, text: str, *, seed: int, temperature: float, top_p: float, max_new_tokens: int) -> list[int]:
        """The tokens that it makes after those of the text."""
        self._transformers.set_seed(seed)
        chosen = (
            {"do_sample": True, "temperature": temperature, "top_p": top_p} if temperature else {"do_sample": False}
        )
        before = self._pipe.preprocess(text)["input_ids"].shape[-1]
        whole = self._pipe(text, max_new_tokens=max_new_tokens, return_tensors=True, **chosen)
        tokens: list[int] = whole[0]["generated_token_ids"][before:]
        return tokens

    def _of(self, text: str, parameters: dict[str, Any]) -> Any:
        given = self._pipe(text, **parameters)
        # Of one text, this task gives a list of one.
        return _plain(given[0] if self._task == "feature-extraction" else given)


def _plain(value: Any) -> Any:
    """As JSON has it: numbers of numpy's are ours then."""
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value.item() if hasattr(value, "item") else value


if __name__ == "__main__":
    main()
