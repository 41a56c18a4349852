"""A driver for the real binding: a library in place of `libnvidia-ml.so.1`, whose functions are C functions written here.

`pynvml` calls them through ctypes as it calls NVIDIA's: its structs, its codes and its errors are the real ones.
"""

import ctypes
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pynvml
import pytest

_INT = ctypes.c_int
_ADDRESS = ctypes.c_void_p


@dataclass
class Gpu:
    """A card, as its driver tells of it."""

    name: bytes = b"Tesla V100-SXM2-32GB"
    uuid: bytes = b"GPU-00000000-0000-0000-0000-000000000000"
    #: Per cent, bytes, bytes, degrees Celsius, milliwatts.
    load: int = 40
    used: int = 1 << 30
    total: int = 32 << 30
    temperature: int = 55
    power: int = 123_456
    #: Processes that use it: their numbers, and how much of it each does, in per cent; `None`: it is not told.
    processes: dict[int, int] | None = None
    #: The parts that it is cut into; `None`: it cannot be.
    mig: tuple[bytes, ...] | None = None


class Driver:
    """What stands behind the binding. `codes` says what a function answers where it is to fail."""

    def __init__(self, *gpus: Gpu) -> None:
        self.gpus = list(gpus)
        self.codes: dict[str, int] = {}
        #: Functions that this driver is too old for.
        self.missing: set[str] = set()
        self.opened = 0
        #: Cleared: the driver hangs, as one does whose card fell off the bus.
        self.answers = threading.Event()
        self.answers.set()
        self._functions: dict[str, Any] = {}
        for name, kinds, function in self._table():
            self._functions[name] = ctypes.CFUNCTYPE(_INT, *kinds)(self._guarded(name, function))

    def __getattr__(self, name: str) -> Any:
        # As of a library that was loaded.
        if name.startswith("_") or name in self.missing or name not in self._functions:
            raise AttributeError(name)
        return self._functions[name]

    def _guarded(self, name: str, function: Callable[..., None]) -> Callable[..., int]:
        def call(*arguments: Any) -> int:
            self.answers.wait(30)
            if code := self.codes.get(name):
                return code
            if name == "nvmlDeviceGetProcessUtilization":
                if self.gpus[arguments[0] - 1].processes is None:
                    return int(pynvml.NVML_ERROR_NOT_FOUND)
                function(*arguments)
                # It says first how much room the answer takes.
                return int(pynvml.NVML_SUCCESS if arguments[1] else pynvml.NVML_ERROR_INSUFFICIENT_SIZE)
            function(*arguments)
            return int(pynvml.NVML_SUCCESS)

        return call

    def _table(self) -> list[tuple[str, tuple[Any, ...], Callable[..., None]]]:
        def count(out: int) -> None:
            _write(out, ctypes.c_uint(len(self.gpus)))

        def handle(index: int, out: int) -> None:
            _write(out, ctypes.c_void_p(index + 1))

        def load(device: int, out: int) -> None:
            _write(out, ctypes.c_uint(self.gpus[device - 1].load), ctypes.c_uint(0))

        def memory(device: int, out: int) -> None:
            gpu = self.gpus[device - 1]
            sizes = (gpu.total, gpu.total - gpu.used, gpu.used)
            _write(out, *(ctypes.c_ulonglong(size) for size in sizes))

        def text(field: str) -> Callable[[int, int, int], None]:
            def write(device: int, out: int, room: int) -> None:
                value = getattr(self.gpus[device - 1], field)
                ctypes.memmove(out, value[: room - 1] + b"\0", min(len(value), room - 1) + 1)

            return write

        def power(device: int, out: int) -> None:
            _write(out, ctypes.c_uint(self.gpus[device - 1].power))

        def temperature(device: int, sensor: int, out: int) -> None:
            assert sensor == pynvml.NVML_TEMPERATURE_GPU
            _write(out, ctypes.c_uint(self.gpus[device - 1].temperature))

        def processes(device: int, out: int, room: int, since: int) -> None:
            using = self.gpus[device - 1].processes
            assert using is not None
            if out:
                samples = [
                    pynvml.c_nvmlProcessUtilizationSample_t(pid, stamp, share if stamp == 2 else 99, 0, 0, 0)
                    for pid, share in using.items()
                    for stamp in (1, 2)
                ]
                _write(out, *samples)
            _write(room, ctypes.c_uint(2 * len(using)))

        def version(out: int, room: int) -> None:
            ctypes.memmove(out, b"550.54.15\0", 10)

        def mig_mode(device: int, out: int, pending: int) -> None:
            on = self.gpus[device - 1].mig is not None
            _write(out, ctypes.c_uint(on))
            _write(pending, ctypes.c_uint(on))

        def mig_part(device: int, number: int, out: int) -> None:
            parts = self.gpus[device - 1].mig or ()
            # A part's handle stands for a GPU that is put behind all others.
            self.gpus.append(Gpu(name=parts[number]))
            _write(out, ctypes.c_void_p(len(self.gpus)))

        return [
            ("nvmlSystemGetDriverVersion", (_ADDRESS, ctypes.c_uint), version),
            ("nvmlSystemGetCudaDriverVersion", (_ADDRESS,), lambda out: _write(out, ctypes.c_int(12040))),
            ("nvmlDeviceGetMigMode", (_ADDRESS, _ADDRESS, _ADDRESS), mig_mode),
            ("nvmlDeviceGetMaxMigDeviceCount", (_ADDRESS, _ADDRESS), lambda device, out: _write(out, ctypes.c_uint(2))),
            ("nvmlDeviceGetMigDeviceHandleByIndex", (_ADDRESS, ctypes.c_uint, _ADDRESS), mig_part),
            ("nvmlInitWithFlags", (ctypes.c_uint,), lambda flags: self._open(+1)),
            ("nvmlShutdown", (), lambda: self._open(-1)),
            ("nvmlErrorString", (_INT,), lambda code: None),
            ("nvmlDeviceGetCount_v2", (_ADDRESS,), count),
            ("nvmlDeviceGetHandleByIndex_v2", (ctypes.c_uint, _ADDRESS), handle),
            ("nvmlDeviceGetName", (_ADDRESS, _ADDRESS, ctypes.c_uint), text("name")),
            ("nvmlDeviceGetUUID", (_ADDRESS, _ADDRESS, ctypes.c_uint), text("uuid")),
            ("nvmlDeviceGetUtilizationRates", (_ADDRESS, _ADDRESS), load),
            ("nvmlDeviceGetMemoryInfo", (_ADDRESS, _ADDRESS), memory),
            ("nvmlDeviceGetTemperature", (_ADDRESS, ctypes.c_uint, _ADDRESS), temperature),
            ("nvmlDeviceGetPowerUsage", (_ADDRESS, _ADDRESS), power),
            ("nvmlDeviceGetIndex", (_ADDRESS, _ADDRESS), lambda device, out: _write(out, ctypes.c_uint(device - 1))),
            ("nvmlDeviceGetProcessUtilization", (_ADDRESS, _ADDRESS, _ADDRESS, ctypes.c_ulonglong), processes),
        ]

    def _open(self, change: int) -> None:
        self.opened += change


def _write(address: int, *values: Any) -> None:
    for value in values:
        ctypes.memmove(address, ctypes.byref(value), ctypes.sizeof(value))
        address += ctypes.sizeof(value)


def load(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> Driver:
    """Have the binding find this library as loaded."""
    monkeypatch.setattr(pynvml, "nvmlLib", driver)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    return driver
