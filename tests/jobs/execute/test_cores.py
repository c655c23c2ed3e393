"""What a process may use of its machine, with the limits of its control group."""

import os
import subprocess
import sys

import psutil
import pytest

from jobs.execute import cores


@pytest.fixture
def group(tmp_path, monkeypatch):
    """The control group of this process, below a folder that takes the place of /sys/fs/cgroup."""
    monkeypatch.setattr(cores, "_groups", lambda top: iter([top / "job", top]))
    (tmp_path / "job").mkdir()
    return tmp_path / "job"


def test_cores_are_limited_by_the_quota_of_the_group_and_of_those_above(group, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert cores.available(group.parent) == 8
    (group / "cpu.max").write_text("max 100000")
    assert cores.available(group.parent) == 8
    (group.parent / "cpu.max").write_text("350000 100000")
    assert cores.available(group.parent) == 3
    (group / "cpu.max").write_text("50000 100000")
    assert cores.available(group.parent) == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not bind processes to cores")
def test_cores_are_those_that_the_process_is_bound_to():
    code = "import os; from jobs.execute import cores; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
    command = [sys.executable, "-c", f"{code}; print(cores.available())"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "1\n"


def test_memory_is_what_the_group_has_left_without_cached_files(group):
    assert 0 < cores.memory(group.parent) <= psutil.virtual_memory().total
    (group / "memory.max").write_text("1000")
    (group / "memory.current").write_text("900")
    (group / "memory.stat").write_text("anon 600\ninactive_file 250\nactive_file 50")
    assert cores.memory(group.parent) == 350
    (group / "memory.max").write_text("max")
    assert cores.memory(group.parent) > 350


def test_each_process_sees_one_of_the_devices_that_its_parent_sees(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [cores.visible(i) for i in range(2)] == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-8f2a")
    assert [cores.visible(i) for i in range(2)] == ["4", "GPU-8f2a"]


def test_the_processor_is_known_by_its_name_and_instructions(tmp_path, monkeypatch):
    file = tmp_path / "cpuinfo"
    file.write_text("model name\t: Fast 9\nflags\t\t: avx512f\ncpu MHz\t: 2100.1\n\nmodel name\t: Fast 9\n")
    monkeypatch.setattr(cores, "CPU_INFO", file)
    here = cores.processor()
    file.write_text(file.read_text().replace("2100.1", "3000.0"))
    assert cores.processor() == here
    file.write_text(file.read_text().replace("avx512f", "avx2"))
    assert cores.processor() != here
