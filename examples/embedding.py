"""Pithead inside a program of yours: answers to many questions, from whatever machines the exchange has.

    PITHEAD_URL=http://127.0.0.1:8080 PITHEAD_KEY=key_… python examples/embedding.py smollm2-135m-instruct 0.01 \
        'Name a colour.' 'Name a fruit.'

`PitheadExecutor` is an executor like those of `concurrent.futures`: what is submitted is a function that makes the input of
a job, and the future's result is what a miner made of it.
"""

import concurrent.futures
import json
import sys
from collections.abc import Sequence

from pithead.client import JobFailed, PitheadExecutor


def question(text: str) -> dict[str, object]:
    """The input of a job: what the model is asked."""
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 32, "temperature": 0}


def words(answer: bytes) -> str:
    """What the model said: the built-in runner and model servers answer in the form of a chat completion."""
    said: str = json.loads(answer)["choices"][0]["message"]["content"]
    return said.strip()


def main(model: str, price: str, questions: Sequence[str]) -> int:
    """Print each answer as it arrives; how many did not."""
    failed = 0
    with PitheadExecutor(model=model, price=price) as fleet:
        asked = {fleet.submit(question, text): text for text in questions}
        for done in concurrent.futures.as_completed(asked):
            try:
                print(f"{asked[done]} {words(done.result())}")
            except JobFailed as failure:
                failed += 1
                print(f"{asked[done]} – {failure}", file=sys.stderr)
    return failed


if __name__ == "__main__":
    sys.exit(min(1, main(sys.argv[1], sys.argv[2], sys.argv[3:])))
