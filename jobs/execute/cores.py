"""What this process may use of its machine: cores, memory, GPUs, within the limits of its container."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

import psutil

CGROUPS = Path("/sys/fs/cgroup")
CPU_INFO = Path("/proc/cpuinfo")
CPUS = Path("/sys/devices/system/cpu")
# Lines of it that say what a core can do, on x86 and on ARM.
_OF_A_CORE = ("model name", "flags", "CPU implementer", "CPU part", "Features")


def available(cgroups: Path = CGROUPS) -> int:
    """Cores that this process may use: those it may run on, and the CPU time of its control group.

    Args:
        cgroups: where control groups are mounted.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for group in _groups(cgroups):
        quota, _, period = _read(group / "cpu.max").partition(" ")
        if quota.isdecimal() and period.strip().isdecimal():
            cores = min(cores, int(quota) // int(period))
    return max(1, cores)


def physical(cpus: Path = CPUS) -> int:
    """Cores that this process may use, each counted once if it runs two threads at a time (SMT).

    Args:
        cpus: where Linux describes the processors; without it, or if it says nothing, every processor is a core.
    """
    mine = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    shared = {_read(cpus / f"cpu{number}" / "topology" / "thread_siblings_list") or str(number) for number in mine}
    return min(len(shared), available())


def idle(seconds: float = 0.5) -> float:
    """Cores of the whole machine that nothing has used for some seconds.

    Args:
        seconds: how long to look.
    """
    return (1 - psutil.cpu_percent(seconds) / 100) * (os.cpu_count() or 1)


def memory(cgroups: Path = CGROUPS) -> int:
    """Bytes that processes here can still take, cached files not counted as taken.

    Args:
        cgroups: where control groups are mounted.
    """
    free = int(psutil.virtual_memory().available)
    for group in _groups(cgroups):
        limit, used = _read(group / "memory.max"), _read(group / "memory.current")
        if limit.isdecimal() and used.isdecimal():
            kept = dict(line.split(" ", 1) for line in _read(group / "memory.stat").splitlines())
            free = min(free, int(limit) - int(used) + int(kept.get("inactive_file", 0)))
    return max(0, free)


def processor() -> str:
    """What kind of processor this is: its name and instructions."""
    found: dict[str, str] = {}
    for line in _read(CPU_INFO).splitlines():
        name, _, value = line.partition(":")
        if name.strip() in _OF_A_CORE:
            found.setdefault(name.strip(), value.strip())
    return str(sorted(found.items())) if found else f"{platform.machine()} {platform.processor()}"


def gpus() -> int:
    """CUDA devices that this process sees."""
    import torch

    return torch.cuda.device_count()


def visible(number: int) -> str:
    """The value of CUDA_VISIBLE_DEVICES that shows a process only one of the devices that this one sees."""
    seen = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return seen[number].strip() if number < len(seen) else str(number)


def share(workers: int, of: int | None = None) -> None:
    """Let torch use this process's share of the cores; fewer threads, asked for by OMP_NUM_THREADS, stay.

    Args:
        workers: processes that share the machine.
        of: threads of a single process, if their number was measured; by default the cores.
    """
    import torch

    threads = max(1, (of or available()) // workers)
    # On a processor with SMT torch starts one thread a core; only a measurement asks for two.
    if threads < torch.get_num_threads() or of is not None:
        torch.set_num_threads(threads)


def _groups(cgroups: Path) -> Iterator[Path]:
    """The control group of this process and those above it; each can limit it. None on other systems."""
    own = next((line[3:] for line in _read(Path("/proc/self/cgroup")).splitlines() if line.startswith("0::")), None)
    if own is None:
        return
    # In a container the path may be the host's, which does not exist here; the limits are at the top then.
    group = cgroups / own.strip("/")
    while True:
        if group.is_dir():
            yield group
        if group == cgroups:
            return
        group = group.parent


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
