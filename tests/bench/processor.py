"""The kind of processor that figures are from, because the order of the arms depends on it.

A processor with fewer instructions can be emulated by forbidding the libraries to use the others:

    ONEDNN_MAX_CPU_ISA=AVX512_CORE                                                      AVX-512 without VNNI
    ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2       AVX2

`MKL_ENABLE_INSTRUCTIONS` is for torch's own float32 products. ONNX Runtime and CTranslate2 know none of these, so their
arms say nothing in an emulation. Caches and clock rates stay those of the machine.
"""

from __future__ import annotations

import os
from typing import Any

LIMIT = "ONEDNN_MAX_CPU_ISA"
# From the most instructions to the fewest: kind -> the capability of `torch.cpu.get_capabilities` that it has.
KINDS = {
    "AMX": ("amx_tile",),
    "AVX-512 bf16": ("avx512_bf16",),
    "VNNI": ("avx512_vnni",),
    "AVX-512": ("avx512_f",),
    "AVX2 VNNI": ("avx_vnni",),
    "AVX2": ("avx2",),
}
# Names of oneDNN -> the kind that is left.
LIMITS = {
    "AVX512_CORE_BF16": "AVX-512 bf16",
    "AVX512_CORE_VNNI": "VNNI",
    "AVX512_CORE": "AVX-512",
    "AVX2_VNNI": "AVX2 VNNI",
    "AVX2": "AVX2",
}


def describe() -> dict[str, Any]:
    """Kind, name, cores and emulation of the processor, and the GPU if torch sees one."""
    import torch

    capabilities = torch.cpu.get_capabilities()
    found: dict[str, Any] = {
        "kind": kind(capabilities),
        "emulated": emulated() is not None,
        "name": capabilities.get("cpu_name", capabilities.get("architecture", "unknown")),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    return found | ({"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {})


def kind(capabilities: Any) -> str:
    """The first of `KINDS` that the processor has; its architecture if that is not x86."""
    for name, needed in KINDS.items():
        if all(capabilities.get(capability, False) for capability in needed):
            return name
    return str(capabilities.get("architecture", "unknown"))


def emulated() -> str | None:
    """The kind that the environment asks to emulate."""
    return LIMITS.get(os.environ.get(LIMIT, "").upper())


def follow_emulation() -> None:
    """Hide from the project's own choices what the libraries must not use."""
    wanted = emulated()
    if wanted is None:
        return
    import torch

    order = list(KINDS)
    hidden = {name for kind_ in order[: order.index(wanted)] for name in KINDS[kind_]}
    real = torch.cpu.get_capabilities

    def limited() -> dict[str, Any]:
        return {name: name not in hidden and value for name, value in real().items()}

    torch.cpu.get_capabilities = limited
