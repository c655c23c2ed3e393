"""One run holds a sink, on a local disk and on an object store; each holder has a higher number than the one before."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import uuid

import pytest

from jobs.store import Store, lease, names
from jobs.store.hub import HubStore
from jobs.store.opening import open_store
from transforms.errors import SinkBusy, SinkError, SpecError


def test_a_second_run_is_refused_with_the_name_of_the_first(store):
    with (
        lease.hold(store),
        pytest.raises(SinkBusy, match=r"written by process \d+ on .* since"),
        lease.hold(open_store(store.url, "sink.path")),
    ):
        pass


def test_numbers_of_lease_holders_increase_and_are_never_reused(store):
    numbers = []
    for _ in range(3):
        with lease.hold(store) as held:
            held.check()
            numbers.append(held.number)
    assert numbers == [1, 2, 3]


def test_a_lease_that_ran_out_is_taken_over_and_its_old_holder_notices(bucket):
    store = Store(f"{bucket}/{uuid.uuid4().hex}")
    with lease.hold(store) as first:
        (name,) = store.names(names.LEASES)
        store.put(name, json.dumps(json.loads(store.get(name)) | {"until": time.time() - 1}).encode())
        with lease.hold(open_store(store.url, "sink.path")) as second:
            assert second.number == first.number + 1
            with pytest.raises(SinkBusy, match="taken over"):
                first.check()
    with lease.hold(store) as third:
        assert third.number == 3


def test_a_store_that_ignores_conditional_writes_is_refused(monkeypatch):
    store = Store(f"memory://{uuid.uuid4().hex}")
    monkeypatch.setattr(Store, "put_if_absent", lambda self, name, content: self.put(name, content) or True)
    with pytest.raises(SinkError, match="If-None-Match"), lease.hold(store):
        pass


def test_a_store_without_conditional_writes_is_refused_before_anything_is_written():
    with pytest.raises(SpecError, match="conditional writes"), lease.hold(Store("https://example.org/lake")):
        pass


@pytest.mark.parametrize("content", ["", "null", "[1]"])
def test_a_damaged_file_about_the_last_holder_does_not_stop_a_run(tmp_path, content):
    store = Store(str(tmp_path))
    with lease.hold(store):
        pass
    (tmp_path / lease.HOLDER).write_text(content)
    with lease.hold(store) as held:
        assert held.number == 1


KILLED = """
import os, signal, sys
from jobs.store import lease
from jobs.store.hub import HubStore
from jobs.store.opening import open_store
with lease.hold(open_store(sys.argv[1], "registry")):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("machine", ["this", "another"])
def test_the_lease_of_a_killed_process_is_taken_over_at_once_on_its_machine(hub, tmp_path, monkeypatch, machine):
    monkeypatch.setenv("HF_TOKEN", hub.token("ada"))
    store = HubStore(f"hf://org/{uuid.uuid4().hex}")
    assert subprocess.run([sys.executable, "-c", KILLED, store.url], check=False).returncode == -signal.SIGKILL
    if machine == "another":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
        with pytest.raises(SinkBusy, match="is being written by process"), lease.hold(store):
            pass
        return
    with lease.hold(store) as held:
        assert held.number == 2
