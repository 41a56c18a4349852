"""Who and what takes part: the miners, the client, the kinds of jobs."""

from collections.abc import Iterator
from typing import Final

import msgspec

#: Jobs come in 4 types of GPU and `any`, of 8 models, at 4 prices: 160 kinds, however long the queue is.
GPU_TYPES: Final = ("v100", "a100", "h100", "l40s")
MODELS: Final = ("gpt2", "llama-3.2-1b", "mistral-7b", "qwen2.5-7b", "whisper-large", "sdxl", "clip-vit", "bge-m3")
PRICES: Final = (0.05, 0.06, 0.08, 0.1)
ESTIMATED_TIME: Final = 600
#: What miners ask per GPU and hour; every price above covers it.
PRICE_PER_HOUR: Final = 0.05
#: A model that one miner alone has.
OWN_MODEL: Final = "woken"
#: Seconds that they may be silent: longer than any run, and the filling of its databases.
SILENT_FOR: Final = 86_400
#: Far more than one ever holds here, so that no accept is refused for it.
MAX_CONCURRENT: Final = 1000
INPUT: Final = b'{"prompt":"What is the capital of France? Answer in one word.","max_tokens":24,"temperature":0}'


class Miner(msgspec.Struct, frozen=True):
    """A registered miner. Every second one takes any model, the others list two."""

    id: str
    key: str
    gpu_type: str
    models: tuple[str, ...] | None


class Kind(msgspec.Struct, frozen=True):
    """What a job asks for, and pays."""

    gpu_type: str
    model: str
    price: float


class Fleet(msgspec.Struct, frozen=True):
    """All of them."""

    miners: list[Miner]
    client_key: str
    #: Miners for which there is no job in the queue; the first has a model of its own.
    idle: list[Miner] = []


def kinds() -> Iterator[Kind]:
    """The kinds of the queued jobs, endlessly in turn."""
    types = (*GPU_TYPES, "any")
    while True:
        yield from (Kind(gpu_type, model, price) for model in MODELS for price in PRICES for gpu_type in types)


def models_of(number: int) -> tuple[str, ...] | None:
    """The models of the miner of this number."""
    if number // len(GPU_TYPES) % 2 == 0:
        return None
    return (MODELS[number % len(MODELS)], MODELS[(number + 1) % len(MODELS)])


def kind_for(miner: Miner, number: int) -> Kind:
    """The kind of the job of this number made for a miner; it fits."""
    models = miner.models or MODELS
    return Kind(miner.gpu_type, models[number % len(models)], PRICES[number % len(PRICES)])
