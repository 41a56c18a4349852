"""What the machine has and how it does, through the real binding."""

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec
import pynvml
import pytest
from tests.agent.nvml import Driver, Gpu, load
from tests.agent.rig import Rig

from pithead.agent.gpus import CORES_PER_SLOT, Inventory, Sampler, cores, discover, look, slug, telemetry
from pithead.wire.miners import RegisterMiner


@pytest.fixture(autouse=True)
def no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Tesla V100-SXM2-32GB", "v100"),
        ("Tesla T4", "t4"),
        ("GRID T4-16Q", "t4"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA A100 80GB PCIe", "a100"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA GH200 480GB", "gh200"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("NVIDIA GeForce RTX 4060 Ti 16GB", "rtx-4060-ti"),
        ("NVIDIA GeForce RTX 2070 with Max-Q Design", "rtx-2070"),
        ("NVIDIA GeForce RTX 3080 Laptop GPU", "rtx-3080-laptop"),
        ("GeForce GTX 1080 Ti", "gtx-1080-ti"),
        ("NVIDIA RTX A6000", "rtx-a6000"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx-6000-ada"),
        ("Quadro P4000", "quadro-p4000"),
        ("Tesla K80", "k80"),
        ("Orin (nvgpu)", "orin-nvgpu"),
        ("NVIDIA Graphics Device", "nvidia-gpu"),
        ("", "nvidia-gpu"),
        ("カード", "nvidia-gpu"),
        ("x" * 300, "x" * 64),
        ("y" * 63 + " z", "y" * 63),
    ],
)
def test_a_product_name_as_a_type(name: str, expected: str) -> None:
    assert slug(name) == expected
    # The coordinator takes it, and no job's `any` is meant.
    fields = {"name": "n", "gpu_type": slug(name), "gpu_count": 1, "location": "", "price_per_hour": 0}
    msgspec.convert(fields | {"max_concurrent": 1}, RegisterMiner)


def test_without_a_driver_the_processor_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The binding itself says that there is no library, unless this machine has one."""
    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "CDLL", _no_library)
    assert discover() == Inventory("cpu", max(1, cores() // CORES_PER_SLOT))
    assert not discover().has_gpu
    assert telemetry() == {}


def _no_library(name: str) -> Any:
    assert name == "libnvidia-ml.so.1"
    raise OSError(f"{name}: cannot open shared object file: No such file or directory")


def test_a_library_that_is_none_is_as_good_as_absent(tmp_path: Path) -> None:
    """Found by the dynamic linker, in a process of its own, where the binding is as it comes."""
    (tmp_path / "libnvidia-ml.so.1").write_bytes(b"not a library")
    program = "from pithead.agent.gpus import discover, telemetry; print(discover().gpu_type, telemetry())"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("cpu {}\n", "")


def test_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = load(Driver(Gpu(), Gpu()), monkeypatch)
    assert discover() == Inventory("v100", 2)
    assert discover().has_gpu
    assert driver.opened == 0, "what was opened is closed"


def test_of_several_types_the_most_numerous_one_and_a_word_about_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    load(Driver(Gpu(b"Tesla T4"), Gpu(), Gpu(b"Tesla V100-PCIE-16GB"), Gpu(b"NVIDIA L4")), monkeypatch)
    found = discover()
    assert (found.gpu_type, found.count) == ("v100", 2)
    assert "1 × t4, 1 × l4 left out" in found.note
    assert "--profile" in found.note


@pytest.mark.parametrize(
    ("visible", "types"),
    [
        ("0", "t4"),
        ("1, 2", "v100 l4"),
        ("", ""),
        ("-1", ""),
        ("7", ""),
        ("GPU-bbbb", "v100"),
        ("GPU-bbbb2222-0000,GPU-cccc", "v100 l4"),
        ("GPU-none", ""),
        ("MIG-bbbb", ""),
    ],
)
def test_devices_that_are_hidden_from_cuda_are_not_offered(
    visible: str, types: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = ((b"Tesla T4", b"GPU-aaaa1111-0000"), (b"V100", b"GPU-bbbb2222-0000"), (b"L4", b"GPU-cccc3333-0000"))
    load(Driver(*(Gpu(name, uuid) for name, uuid in cards)), monkeypatch)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [slug(gpu["name"]) for gpu in telemetry()["gpus"]] == types.split()
    assert discover().gpu_type == (types.split() or ["cpu"])[0]


@pytest.mark.parametrize(
    ("function", "code", "says"),
    [
        ("nvmlInitWithFlags", pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "does not answer"),
        ("nvmlInitWithFlags", pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "does not answer"),
        ("nvmlDeviceGetCount_v2", pynvml.NVML_ERROR_UNKNOWN, "does not answer"),
        # A card that fell off the bus is none.
        ("nvmlDeviceGetHandleByIndex_v2", pynvml.NVML_ERROR_GPU_IS_LOST, ""),
    ],
)
def test_a_driver_that_fails_leaves_the_processor(
    function: str, code: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = load(Driver(Gpu()), monkeypatch)
    driver.codes[function] = code
    found = discover()
    assert found.gpu_type == "cpu"
    assert says in found.note
    assert telemetry().get("gpus", []) == []


def test_telemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    load(Driver(Gpu()), monkeypatch)
    assert telemetry() == {
        "gpus": [
            {
                "index": 0,
                "name": "Tesla V100-SXM2-32GB",
                "others_percent": None,
                "utilization_percent": 40,
                "memory_used_bytes": 1 << 30,
                "memory_total_bytes": 32 << 30,
                "temperature_celsius": 55,
                "power_watts": 123.456,
            }
        ]
    }


def test_what_others_use_is_told_apart_from_what_we_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["sleep", "60"]) as ours:
        try:
            # One that is no process here is one of another container's, as the driver numbers them.
            using = {os.getpid(): 40, ours.pid: 5, os.getppid(): 30, 2**22 + 1: 20}
            load(Driver(Gpu(processes=using), Gpu(processes={})), monkeypatch)
            assert [gpu["others_percent"] for gpu in telemetry()["gpus"]] == [30, 0]
        finally:
            ours.kill()


@pytest.mark.parametrize("how", ["too old", "not for this card"])
def test_what_a_driver_does_not_tell_is_null(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = load(Driver(Gpu()), monkeypatch)
    told = (
        "nvmlDeviceGetName",
        "nvmlDeviceGetUtilizationRates",
        "nvmlDeviceGetMemoryInfo",
        "nvmlDeviceGetTemperature",
        "nvmlDeviceGetPowerUsage",
        "nvmlDeviceGetIndex",
    )
    if how == "too old":
        driver.missing.update(told)
    else:
        driver.codes.update(dict.fromkeys(told, pynvml.NVML_ERROR_NOT_SUPPORTED))
    [gpu] = telemetry()["gpus"]
    assert set(gpu.values()) == {None}
    # A card without a name is one all the same.
    assert discover() == Inventory("nvidia-gpu", 1)


def test_a_name_that_is_no_text_breaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    load(Driver(Gpu(b"\xff\xfe")), monkeypatch)
    assert discover() == Inventory("nvidia-gpu", 1)
    assert telemetry()["gpus"][0]["name"] is None


async def thread_ended(sampler: Sampler) -> None:
    assert sampler._running is not None
    await asyncio.to_thread(sampler._running.join)


async def test_a_driver_that_hangs_is_left_alone_after_a_second(dark: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = load(Driver(Gpu()), monkeypatch)
    sampler = Sampler()
    first = await sampler.take()
    assert first["gpus"][0]["temperature_celsius"] == 55
    await thread_ended(sampler)
    threads = threading.active_count()
    driver.answers.clear()
    taking = asyncio.create_task(sampler.take())
    await dark.passes(0.9, step=0.1)
    assert not taking.done()
    await dark.passes(0.2, step=0.1)
    assert await taking == first
    # It hangs in one thread, not in one for each heartbeat; and nothing is waited for any more.
    for _ in range(5):
        assert await sampler.take() == first
    assert threading.active_count() == threads + 1
    driver.gpus[0].temperature = 66
    driver.answers.set()
    await thread_ended(sampler)
    assert (await sampler.take())["gpus"][0]["temperature_celsius"] == 66


async def test_a_sample_that_breaks_is_none(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> dict[str, Any]:
        raise RuntimeError("of the driver")

    sampler = Sampler(broken)
    assert await sampler.take() == {}
    await thread_ended(sampler)
    assert "of the driver" in caplog.text


async def test_a_driver_that_hangs_at_the_start_leaves_the_processor(
    dark: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = load(Driver(Gpu()), monkeypatch)
    assert await look() == Inventory("v100", 1)
    driver.answers.clear()
    looking = asyncio.create_task(look())
    await dark.passes(9)
    assert not looking.done()
    await dark.passes(2)
    found = await looking
    assert (found.gpu_type, found.has_gpu) == ("cpu", False)
    assert "gave no answer within 10 s" in found.note
    driver.answers.set()
