"""What is in the machine: the real binding over a driver made here, and `amdsmi` as an object with its functions."""

import os
import platform
import subprocess
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
from tests.agent.nvml import Driver, Gpu, load

from pithead.agent import gpus
from pithead.agent.hardware import survey


@pytest.fixture(autouse=True)
def no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_nvidias_cards_are_told_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    load(Driver(Gpu(), Gpu(name=b"NVIDIA Quux 9000", uuid=b"GPU-7")), monkeypatch)
    found = survey(types={"quux": "Q9"})
    assert (found.vendor, found.driver, found.cuda) == ("nvidia", "550.54.15", "12.4")
    first, second = found.cards
    assert (first.gpu_type, first.memory_total_bytes, first.temperature_celsius) == ("v100", 32 << 30, 55)
    assert (first.power_watts, first.utilization_percent, first.mig) == (123.456, 40, None)
    assert (second.gpu_type, second.uuid, second.index) == ("q9", "GPU-7", 1)


def test_the_parts_of_a_card_that_is_cut_up_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    load(Driver(Gpu(name=b"NVIDIA A100", mig=(b"NVIDIA A100 MIG 1g.10gb", b"NVIDIA A100 MIG 2g.20gb"))), monkeypatch)
    [card] = survey().cards
    assert card.mig == ["NVIDIA A100 MIG 1g.10gb", "NVIDIA A100 MIG 2g.20gb"]


def test_a_driver_that_is_too_old_for_versions_and_parts_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = load(Driver(Gpu()), monkeypatch)
    driver.missing |= {"nvmlSystemGetDriverVersion", "nvmlSystemGetCudaDriverVersion", "nvmlDeviceGetMigMode"}
    found = survey()
    assert (found.driver, found.cuda, found.cards[0].mig, found.cards[0].gpu_type) == (None, None, None, "v100")


class Amd:
    """`amdsmi`, as version 6 answers."""

    def __init__(self, *devices: dict[str, Any]) -> None:
        self.devices, self.opened = devices, 0

    def amdsmi_init(self) -> None:
        self.opened += 1

    def amdsmi_shut_down(self) -> None:
        self.opened -= 1

    def amdsmi_get_processor_handles(self) -> list[dict[str, Any]]:
        return list(self.devices)

    def amdsmi_get_gpu_asic_info(self, device: dict[str, Any]) -> dict[str, Any]:
        return {"market_name": device["name"]}

    def amdsmi_get_gpu_vram_usage(self, device: dict[str, Any]) -> dict[str, Any]:
        return {"vram_total": 65520, "vram_used": 10}

    def amdsmi_get_power_info(self, device: dict[str, Any]) -> dict[str, Any]:
        return {"average_socket_power": "N/A"}

    def amdsmi_get_gpu_activity(self, device: dict[str, Any]) -> dict[str, Any]:
        raise RuntimeError("AMDSMI_STATUS_NOT_SUPPORTED")


@pytest.fixture
def no_nvidia(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", absent)


@pytest.mark.usefixtures("no_nvidia")
def test_amds_cards_are_found_through_its_library() -> None:
    amd = Amd({"name": "AMD Instinct MI250X"})
    found = survey(amd=amd)
    [card] = found.cards
    assert (found.vendor, card.gpu_type, card.memory_total_bytes) == ("amd", "amd-instinct-mi250x", 65520 << 20)
    assert (card.power_watts, card.utilization_percent) == (None, None)
    assert amd.opened == 0
    assert gpus.discover(amd=amd) == gpus.Inventory("amd-instinct-mi250x", 1)


class Instinct(Amd):
    """All that a card of the data centre tells, as version 6 answers; `holders` are the processes on it."""

    AmdSmiTemperatureType = SimpleNamespace(EDGE="edge", HOTSPOT="hotspot")
    AmdSmiTemperatureMetric = SimpleNamespace(CURRENT="current")

    def __init__(self, *holders: dict[str, Any]) -> None:
        super().__init__({"name": "AMD Instinct MI300X"})
        self.holders = list(holders)

    def amdsmi_get_power_info(self, device: dict[str, Any]) -> dict[str, Any]:
        return {"current_socket_power": 512, "average_socket_power": "N/A"}

    def amdsmi_get_gpu_activity(self, device: dict[str, Any]) -> dict[str, Any]:
        return {"gfx_activity": 87, "umc_activity": 3, "mm_activity": "N/A"}

    def amdsmi_get_temp_metric(self, device: dict[str, Any], kind: str, metric: str) -> int:
        assert metric == "current"
        if kind == "hotspot":
            raise RuntimeError("AMDSMI_STATUS_NOT_SUPPORTED")
        return 61

    def amdsmi_get_gpu_process_list(self, device: dict[str, Any]) -> list[dict[str, Any]]:
        return self.holders


@pytest.mark.usefixtures("no_nvidia")
def test_how_amds_cards_do_goes_with_heartbeats() -> None:
    amd = Instinct({"pid": os.getpid(), "name": "us"})
    assert gpus.telemetry(amd=amd) == {
        "gpus": [
            {
                "index": 0,
                "name": "AMD Instinct MI300X",
                "others_percent": 0,
                "utilization_percent": 87,
                "memory_used_bytes": 10 << 20,
                "memory_total_bytes": 65520 << 20,
                "temperature_celsius": 61,
                "power_watts": 512,
            }
        ]
    }
    assert amd.opened == 0, "it is closed again"


@pytest.mark.usefixtures("no_nvidia")
@pytest.mark.parametrize(
    ("holders", "others"),
    [
        ((), 0),
        (({"process_info": {"pid": 1}},), 87),
        (({"pid": 1}, {"pid": os.getpid()}), None),
    ],
)
def test_what_others_use_of_an_amd_card_is_told_where_it_can_be(
    holders: tuple[dict[str, Any], ...], others: float | None
) -> None:
    [card] = gpus.telemetry(amd=Instinct(*holders))["gpus"]
    assert card["others_percent"] == others


@pytest.mark.usefixtures("no_nvidia")
def test_a_card_that_tells_little_is_no_fault() -> None:
    [card] = gpus.telemetry(amd=Amd({"name": None}))["gpus"]
    assert card["name"] == "AMD GPU"
    assert [card[name] for name in ("temperature_celsius", "power_watts", "utilization_percent")] == [None] * 3
    assert gpus.telemetry(amd=SimpleNamespace()) == {}


@pytest.mark.usefixtures("no_nvidia")
def test_where_nothing_is_found_it_says_what_was_looked_for() -> None:
    def broken() -> None:
        raise RuntimeError("no kernel module")

    for amd, says in ((Amd(), "shows no GPU"), (SimpleNamespace(amdsmi_init=broken), "no kernel module")):
        found = survey(amd=amd)
        assert (found.vendor, found.cards, found.cores) == ("cpu", [], gpus.cores())
        assert any(line.startswith("NVIDIA: ") for line in found.missing)
        assert any(says in line for line in found.missing)


@pytest.mark.usefixtures("no_nvidia")
def test_apple_silicon_is_a_type_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    said = subprocess.CompletedProcess([], 0, stdout="Apple M2 Max\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: said)
    found = survey()
    assert (found.vendor, found.cards[0].name) == ("apple", "Apple M2 Max")
    assert gpus.discover().gpu_type == found.cards[0].gpu_type == "apple-m2"
