"""Whole jobs on Prism through Beam's portability API, with workers in another virtual environment.

That environment has the built wheel of this repository and nothing of the job: what the job ships is fetched and
installed by the `boot` of Beam's images, as on a cluster.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from jobs import spec
from jobs.runners import needs
from tests import lake, prism
from tests.server import lives
from transforms.errors import SpecError

ROWS, FILES = 60, 4
WAIT_S = 120
# Processes of the test that runs.
STARTED: list[subprocess.Popen[str]] = []

# Has the example of a user's task.
DOCUMENTATION = prism.ROOT / "transforms" / "tasks" / "README.md"
# A prepare function that, where it is installed, notes its environment and holds a shard while the file `hold` exists.
# The planning machine calls it too, from the folder of the job.
PREPARE = '''"""Adds the length of each text."""
import os, time
import pyarrow.compute as pc
import jobs

def lengths(batch):
    folder = {folder!r}
    if not __file__.startswith(folder):
        with open(os.path.join(folder, "environments"), "a") as file:
            file.write(jobs.__file__ + chr(10))
        while os.path.exists(os.path.join(folder, "hold")):
            time.sleep(0.02)
    return batch.append_column("length", pc.utf8_length(batch["text"]))
'''
PROJECT = """[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "my_pkg"
version = "1.0"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A lake, a package of the user with its wheel, and the rows of a local run."""
    root = tmp_path_factory.mktemp("prism")
    lake.make_lake(root / "in", files=FILES, n=ROWS)
    package = root / "my_pkg"
    package.mkdir()
    (package / "__init__.py").touch()
    example = re.search(r"## A task of your own.*?```python\n(.*?)```", DOCUMENTATION.read_text(), re.DOTALL)
    (package / "redact.py").write_text(example[1])
    (package / "clean.py").write_text(PREPARE.format(folder=str(root)))
    (root / "pyproject.toml").write_text(PROJECT)
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(root / "dist")]
    subprocess.run(words, cwd=root, check=True, capture_output=True)
    done = command(root, "local", {"name": "local"})
    assert done.wait(WAIT_S) == 0, done.stderr.read()
    return root


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The Python of the workers."""
    prism.PRISM.find()
    prism.BOOT.find()
    return prism.make_environment(tmp_path_factory.mktemp("workers"))


@pytest.fixture(autouse=True)
def no_process_is_left():
    yield
    for process in STARTED:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    STARTED.clear()


def command(folder, sink, runner):
    """`nightscribe run` of the job into a sink, started."""
    task = {"task": "my_pkg.redact", "column": "text", "into": "clean"}
    source = {"path": str(folder / "in"), "prepare": "my_pkg.clean:lengths"}
    content = {"name": "test", "source": source, "tasks": [task], "sink": {"path": str(folder / sink)}}
    file = folder / f"{sink}.yaml"
    file.write_text(json.dumps(content | {"runner": runner}))
    words = [sys.executable, "-m", "jobs.cli", "run", "--quiet", str(file)]
    # Prism is a child of it, in the same session.
    pipe = subprocess.PIPE
    STARTED.append(subprocess.Popen(words, cwd=folder, stdout=pipe, stderr=pipe, text=True, start_new_session=True))
    return STARTED[-1]


def wheel_of(folder):
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel


def external(pool, **more):
    return {"environment_type": "EXTERNAL", "environment_config": pool.address} | more


def on_prism(pool, folder, ship=True):
    shipped = {"extra_packages": [str(wheel_of(folder))]} if ship else {}
    return {"name": "PrismRunner", "options": external(pool, prism_location=str(prism.PRISM.find()), **shipped)}


def ended(process):
    """Exit code, report, and what was written on stderr."""
    out, err = process.communicate(timeout=WAIT_S)
    return process.returncode, json.loads(out) if process.returncode == 0 else None, err


def wait_until(happened, process):
    until = time.monotonic() + WAIT_S
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_job_with_code_of_its_own_survives_dead_workers_and_ends_as_a_local_run(folder, python):
    hold, environments = folder / "hold", folder / "environments"
    hold.touch()
    with prism.worker_pool(folder / "pool-1", python) as pool:
        process = command(folder, "out", on_prism(pool, folder))
        wait_until(environments.exists, process)
        pool.kill()
        code, _, err = ended(process)
    assert (code, err) == (
        1,
        "nightscribe: a worker has ended before its shards were finished: it was killed, or ran out of memory; "
        "finished shards are kept, run again to continue\n",
    )
    hold.unlink()
    with prism.worker_pool(folder / "pool-2", python) as pool:
        code, report, err = ended(command(folder, "out", on_prism(pool, folder)))
    assert (code, err) == (0, "")
    assert (report["rows_out"], report["shards_done"], report["attempts"]) == (FILES * ROWS, FILES, 2)
    assert lake.contents(folder / "out") == lake.contents(folder / "local")
    inside = {Path(line).is_relative_to(python.parents[1]) for line in environments.read_text().split()}
    assert inside == {True}
    assert wheel_of(folder).name in os.listdir(folder / "pool-2" / "staged")


def test_a_run_that_is_asked_to_stop_cancels_its_pipeline_and_the_next_one_goes_on_through_a_job_server(folder, python):
    hold, environments = folder / "hold", folder / "environments"
    environments.unlink(missing_ok=True)
    hold.touch()
    with prism.worker_pool(folder / "pool-3", python) as pool:
        process = command(folder, "stopped", on_prism(pool, folder))
        wait_until(environments.exists, process)
        # As Ctrl-C in a terminal, which reaches Prism too.
        os.killpg(process.pid, signal.SIGINT)
        code, _, err = ended(process)
        assert code == 1
        assert err == "nightscribe: the run was asked to stop; finished shards are kept, run again to continue\n"
        assert [each for each in psutil.process_iter() if _is_prism_of(process, each)] == []
        hold.unlink()
        with prism.job_server(folder / "server") as endpoint:
            runner = {"name": "PortableRunner", "options": external(pool, job_endpoint=endpoint)}
            code, report, err = ended(command(folder, "stopped", runner))
            assert (code, err, report["rows_out"]) == (0, "", FILES * ROWS)
            # Options are those of Beam and of the server.
            wrong = {"name": "PortableRunner", "options": external(pool, job_endpoint=endpoint, job_endpont="x")}
            with pytest.raises(SpecError, match="job_endpont is not an option of Beam; did you mean job_endpoint"):
                needs.check(spec.parse(lake.job(folder / "in", folder / "stopped", folder, runner=wrong)))
    assert lake.contents(folder / "stopped") == lake.contents(folder / "local")


def test_a_module_that_workers_lack_is_told_in_a_sentence_that_says_how_to_ship_it(folder, python):
    words = [python, "-m", "pip", "uninstall", "--quiet", "--yes", "my_pkg"]
    subprocess.run(words, check=True, capture_output=True)
    with prism.worker_pool(folder / "pool-4", python) as pool:
        code, _, err = ended(command(folder, "lacking", on_prism(pool, folder, ship=False)))
    assert code == 1
    assert "my_pkg" in err
    assert "ship it as a wheel: runner.options.extra_packages: [dist/NAME.whl]" in err
    assert len(err.splitlines()) == 1


def test_two_jobs_run_on_prism_in_one_process_one_after_the_other(folder, models):
    binary = str(prism.PRISM.find())
    for sink in ("first", "second"):
        content = lake.job(folder / "in", folder / sink, models)
        lake.execute(content | {"runner": {"name": "PrismRunner", "options": {"prism_location": binary}}})
    lake.execute(lake.job(folder / "in", folder / "alone", models))
    assert lake.contents(folder / "first") == lake.contents(folder / "second") == lake.contents(folder / "alone")
    assert [each for each in psutil.Process().children() if "prism" in each.name() and lives(each)] == []


def _is_prism_of(process, other):
    try:
        return os.getsid(other.pid) == process.pid and "prism" in other.name()
    except (psutil.Error, ProcessLookupError):
        return False
