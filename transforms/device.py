"""Which device and which dtype `auto` means here."""

from __future__ import annotations

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(device: str) -> torch.device:
    """The device that `auto` means here: the first GPU, else the CPU."""
    if device != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("cpu")


def choose_dtype(dtype: str, device: str) -> str:
    """The dtype that `auto` means on a device: the fastest that the hardware computes natively.

    Decided by what the hardware says it has, not by a stopwatch: a noisy machine must not change the fingerprint.
    """
    if dtype != "auto":
        return dtype
    kind = choose_device(device)
    if kind.type == "cuda":
        major, _ = torch.cuda.get_device_capability(kind)
        return "bfloat16" if major >= 8 else "float16" if major >= 7 else "float32"
    if kind.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return "bfloat16"
    return "float32"
