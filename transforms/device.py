"""The device and the dtype that `auto` selects on this machine."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import torch

from transforms.errors import ModelError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# Speed-up from which bfloat16 is chosen. All parts of a run should have one dtype, so noise must not change the choice:
# the CPUs measured so far are at 0.6 or at 2 and more, and the limit lies between.
WORTH_IT = 1.4
PROBE_ROUNDS = 20


def choose_device(device: str) -> torch.device:
    """The device that `auto` selects: the first GPU, else the CPU."""
    if device != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("cpu")


def is_spread(network: Any) -> bool:
    """Whether a network's layers are on several devices, or were placed as if there were several (`device_map`)."""
    return getattr(network, "hf_device_map", None) is not None


def of(network: Any) -> torch.device:
    """The device of a network's inputs; if its layers are spread, the first one that computes."""
    if not is_spread(network):
        return torch.device(network.device)
    # Layers that are kept in memory or on disk are copied to a GPU when they compute, if there is one.
    places = [place for place in network.hf_device_map.values() if place not in ("cpu", "disk")]
    return torch.device(places[0]) if places else torch.device("cpu")


def kept_elsewhere(network: Any) -> str | None:
    """The first part of a network that is kept in memory or on disk until it computes; None if all are in place."""
    if not is_spread(network):
        return None
    # Without a GPU the CPU is the place where everything computes.
    elsewhere = ("disk",) if of(network).type == "cpu" else ("cpu", "disk")
    return next((f"{name} on {place}" for name, place in network.hf_device_map.items() if place in elsewhere), None)


def computing(network: Any) -> list[torch.device]:
    """Every device that computes a part of a network."""
    if not is_spread(network):
        return [of(network)]
    places = {str(torch.device(place)) for place in network.hf_device_map.values() if place not in ("cpu", "disk")}
    return [torch.device(place) for place in sorted(places)] or [torch.device("cpu")]


def check(device: str) -> None:
    """Refuse a device that this machine does not have.

    Raises:
        ModelError: the machine does not have it.
    """
    kind, _, number = device.partition(":")
    if kind == "cuda":
        here = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not here:
            raise ModelError(f"device is {device!r}, and torch sees no GPU here; choose auto or cpu")
        if number and int(number) >= here:
            names = ", ".join(f"cuda:{i}" for i in range(here))
            raise ModelError(
                f"device is {device!r}, and torch sees {here} GPU here ({names}); choose one of them or auto"
            )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ModelError(
            "device is 'mps', and this machine is no Mac with a GPU that torch can use; choose auto or cpu"
        )


def choose_dtype(dtype: str, device: str) -> str:
    """The dtype that `auto` selects on a device: the fastest one that does not change labels.

    A GPU reports what it supports. A CPU that reports bfloat16 is timed once per process, for less than 0.1 s, because
    on some CPUs these instructions have half the speed of float32. The plan records the dtype; the fingerprint does
    not, so that another machine does not compute finished shards again.
    """
    if dtype != "auto":
        return dtype
    kind = choose_device(device)
    if kind.type == "cuda":
        major, _ = torch.cuda.get_device_capability(kind)
        return "bfloat16" if major >= 8 else "float16" if major >= 7 else "float32"
    if kind.type == "cpu" and has_bfloat16() and bfloat16_speedup() >= WORTH_IT:
        return "bfloat16"
    return "float32"


def has_bfloat16() -> bool:
    """Whether the CPU has matrix instructions for bfloat16, independent of their speed."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


@cache
def bfloat16_speedup() -> float:
    """How many times faster than float32 this CPU multiplies bfloat16 matrices, at the width of BERT-base.

    The two dtypes are timed alternately, and the best round of each counts. A round uses one thread for less than a
    millisecond, so that some rounds are not interrupted by the scheduler: with three busy processes on two cores the
    result is 0.61 to 0.65, on an idle machine 0.63. Products of 4 ms, or of two threads, give 0.1 to 2.8.
    """
    weights, rows = torch.ones(768, 768), torch.ones(64, 768)
    pairs = {dtype: (rows.to(dtype), weights.to(dtype)) for dtype in (torch.float32, torch.bfloat16)}
    best = dict.fromkeys(pairs, float("inf"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(PROBE_ROUNDS):
            for dtype, pair in pairs.items():
                started = time.perf_counter()
                torch.nn.functional.linear(*pair)
                best[dtype] = min(best[dtype], time.perf_counter() - started)
    finally:
        torch.set_num_threads(threads)
    return best[torch.float32] / best[torch.bfloat16]
