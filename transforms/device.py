"""The device and the dtype that `auto` selects on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch

from transforms.errors import ModelError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# Speed-up from which bfloat16 is chosen. All parts of a run should have one dtype, so noise must not change the choice:
# by one product the CPUs measured so far are at 0.6 or at 2 and more, and the limit lies between.
WORTH_IT = 1.4
# Rounds over both dtypes, and rows of a product: 128 rows of BERT-base's layers take 18 ms of a core in float32.
PROBE_ROUNDS, PROBE_ROWS = 5, 128


class Shape(NamedTuple):
    """The sizes of a network's layers, as far as its speed depends on them; those of BERT-base by default."""

    hidden: int = 768
    inner: int = 3072

    @classmethod
    def of(cls, config: Any) -> Shape:
        """The sizes that a configuration of transformers says, by the names that its family has for them."""
        text = config.get_text_config()
        hidden = _size(text, "hidden_size", "d_model")
        if hidden is None:
            return cls()
        inner = _size(text, "intermediate_size", "hidden_dim", "encoder_ffn_dim", "ffn_dim", "d_ff")
        return cls(hidden, inner or 4 * hidden)

    @property
    def probed(self) -> Shape:
        """The sizes that are timed: wider layers are as much faster as those of BERT-large, and take longer."""
        return Shape(min(self.hidden, 1024), min(self.inner, 4096))


BERT = Shape()


def _size(config: Any, *names: str) -> int | None:
    """The first of some attributes that is a size."""
    found = (getattr(config, name, None) for name in names)
    return next((size for size in found if isinstance(size, int) and size > 0), None)


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


def choose_dtype(dtype: str, device: str, shape: Callable[[], Shape] = Shape) -> str:
    """The dtype that `auto` selects on a device: the fastest one that does not change labels.

    A GPU reports what it supports. A CPU that reports bfloat16 is timed once per process and shape, for about 0.2 s,
    because on some CPUs these instructions have half the speed of float32. The plan records the dtype; the fingerprint
    does not, so that another machine does not compute finished shards again.

    Args:
        dtype: the job's setting.
        device: likewise.
        shape: tells the sizes of the network's layers; only asked where they decide.
    """
    if dtype != "auto":
        return dtype
    kind = choose_device(device)
    if kind.type == "cuda":
        major, _ = torch.cuda.get_device_capability(kind)
        return "bfloat16" if major >= 8 else "float16" if major >= 7 else "float32"
    if kind.type == "cpu" and has_bfloat16() and bfloat16_speedup(shape().probed) >= WORTH_IT:
        return "bfloat16"
    return "float32"


def has_bfloat16() -> bool:
    """Whether the CPU has matrix instructions for bfloat16, independent of their speed."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


@cache
def bfloat16_speedup(shape: Shape = BERT) -> float:
    """How many times faster than float32 this CPU computes the linear layers of a network in bfloat16.

    What is timed is a chain of layers as the engine has them: packed, with the GELU in the same pass. The two dtypes
    take turns, and the best round of each counts. It is the time of one thread, which leaves out what the processor
    computes for others meanwhile; seconds on the clock, or of several threads, give 0.1 to 2.8 on a busy machine.

    Args:
        shape: the sizes of the layers.
    """
    chains = {dtype: _chain(shape, dtype) for dtype in (torch.float32, torch.bfloat16)}
    rows = torch.linspace(-1, 1, PROBE_ROWS * shape.hidden).reshape(PROBE_ROWS, shape.hidden)
    best = dict.fromkeys(chains, float("inf"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            for _ in range(PROBE_ROUNDS):
                for dtype, chain in chains.items():
                    given = rows.to(dtype)
                    started = time.thread_time()
                    chain(given)
                    best[dtype] = min(best[dtype], time.thread_time() - started)
    finally:
        torch.set_num_threads(threads)
    return best[torch.float32] / best[torch.bfloat16]


def _chain(shape: Shape, dtype: torch.dtype) -> torch.nn.Module:
    """An attention's output layer and a feed-forward block, as the engine computes them on this CPU."""
    # Imported here because it imports this module.
    from transforms.engines import packed

    sizes = [(shape.hidden, shape.hidden, False), (shape.hidden, shape.inner, True), (shape.inner, shape.hidden, False)]
    layers: list[torch.nn.Module] = []
    for inputs, outputs, gelu in sizes:
        layer = torch.nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu").to(dtype).requires_grad_(False)
        # Numbers that are no denormals, which some processors are slow with.
        layer.weight.fill_(1 / inputs)
        layer.bias.zero_()
        if packed.available(dtype):
            layers.append(packed.PackedLinear(layer, gelu))
        else:
            layers += [layer, torch.nn.GELU()] if gelu else [layer]
    return torch.nn.Sequential(*layers)
