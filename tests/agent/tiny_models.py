"""Tiny models with random weights and tokenizers of their own, in folders as an owner has them, and what pipelines make of
them: `python -m tests.agent.tiny_models FOLDER`, which prints JSON.

In a process of its own, and all of it in one: PyTorch takes seconds to import, and warns of what it likes.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from pithead.agent.runners.transformers_child import _Pipeline, _Refused

WORDS = ["it rains in london today", "one two three four five", "weather and money", "this example is about ."]
#: Tokens that a text may have.
LENGTH = 64


def tokenizer() -> Any:
    """Words of a few sentences, and letters for all others."""
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made.train_from_iterator(WORDS, trainers.WordPieceTrainer(vocab_size=200, special_tokens=special))
    pair = [("[CLS]", 2), ("[SEP]", 3)]
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=pair
    )
    names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    given = {f"{name}_token": token for name, token in names.items()}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=LENGTH, **given)


def make(folder: Path) -> None:
    """A folder for each task."""
    torch.manual_seed(0)
    words = tokenizer()
    small: dict[str, Any] = {"vocab_size": len(words), "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    bert = transformers.BertConfig(
        **small, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=LENGTH,
    )  # fmt: skip
    gpt2 = transformers.GPT2Config(**small, n_positions=LENGTH, n_embd=32, n_layer=1, n_head=2)
    labels = {"id2label": {0: "contradiction", 1: "entailment"}, "label2id": {"contradiction": 0, "entailment": 1}}
    labelled = transformers.BertConfig(**(bert.to_dict() | labels))
    for name, model in {
        "text-generation": transformers.GPT2LMHeadModel(gpt2),
        "fill-mask": transformers.BertForMaskedLM(bert),
        "feature-extraction": transformers.BertModel(bert),
        "text-classification": transformers.BertForSequenceClassification(labelled),
        "zero-shot-classification": transformers.BertForSequenceClassification(labelled),
        "token-classification": transformers.BertForTokenClassification(labelled),
    }.items():
        model.eval()
        model.save_pretrained(folder / name)
        words.save_pretrained(folder / name)


def not_to_be_loaded(folder: Path) -> Iterator[tuple[str, str]]:
    """What a runner must not load: code beside a model, which would make the file `ran`; pickles; and a name of a hub's."""
    good = folder / "text-classification"
    own = folder / "own"
    own.mkdir()
    config = json.loads((good / "config.json").read_text())
    (own / "config.json").write_text(json.dumps(config | {"model_type": "own", "auto_map": {"AutoConfig": "code.Own"}}))
    (own / "code.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\n")
    yield "code", str(own)
    pickled = folder / "pickled"
    pickled.mkdir()
    for file in good.iterdir():
        if file.suffix != ".safetensors":
            os.link(file, pickled / file.name)
    torch.save(
        transformers.AutoModelForSequenceClassification.from_pretrained(good).state_dict(),
        pickled / "pytorch_model.bin",
    )
    yield "pickles", str(pickled)
    yield "a hub's", "gpt2"


def outcome(call: Callable[[], Any]) -> Any:
    """What it gives, or how it refuses."""
    try:
        return call()
    except _Refused as refused:
        return {"refused": str(refused)}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def main(folder: Path) -> None:
    make(folder)
    asked: dict[str, list[tuple[list[str], dict[str, Any]]]] = json.loads(sys.stdin.read())
    found: dict[str, Any] = {}
    for task, calls in asked.items():
        pipeline = _Pipeline(str(folder / task), task, "cpu", 1)
        found[task] = [outcome(lambda: pipeline.run(*call)) for call in calls]  # noqa: B023 (called at once)
    found["not loaded"] = {
        name: outcome(lambda: str(_Pipeline(path, "text-classification", "cpu", 1)))  # noqa: B023 (likewise)
        for name, path in not_to_be_loaded(folder)
    }
    found["ran"] = (folder / "ran").exists()
    json.dump(found, sys.__stdout__ or sys.stdout)


if __name__ == "__main__":
    with redirect_stdout(sys.stderr):
        main(Path(sys.argv[1]))
