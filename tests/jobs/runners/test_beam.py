"""What is sent to workers of a cluster: the plan as text, by a class that they import; unfit workers refuse it."""

import base64
import bz2
import pickletools
import zlib

import apache_beam
import pytest
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.utils.shared import Shared

from jobs import spec
from jobs.execute.stop import NEVER
from jobs.plan import planning
from jobs.runners import beam
from jobs.store import Store, names
from tests import lake
from transforms.errors import UnfitWorker


@pytest.fixture
def plan(tmp_path, models):
    content = lake.job(lake.make_lake(tmp_path / "in"), tmp_path / "out", models)
    return planning.make(spec.parse(content | {"runner": {"name": "PrismRunner"}}))


def steps(plan):
    """Name -> what is pickled of each step of the pipeline."""
    pipeline = apache_beam.Pipeline()
    beam.build(pipeline, plan, plan.shards_todo, Shared())
    found = {}
    for step in pipeline.to_runner_api().components.transforms.values():
        if step.spec.urn == "beam:transform:pardo:v1":
            payload = beam_runner_api_pb2.ParDoPayload.FromString(step.spec.payload).do_fn.payload
            packed = base64.b64decode(payload)
            found[step.unique_name] = bz2.decompress(packed) if packed.startswith(b"BZ") else zlib.decompress(packed)
    return found


def test_our_step_is_pickled_by_reference_and_the_plan_as_text(plan):
    words = [word for _, word, _ in pickletools.genops(steps(plan)["Execute"]) if isinstance(word, str)]
    assert words[:2] == ["jobs.runners.beam", "_ExecuteDoFn"]
    # Code that is pickled by value.
    assert "_make_function" not in words
    assert "CodeType" not in words
    assert [word for word in words if word.startswith("jobs.")] == [
        "jobs.runners.beam",
        "jobs.execute.stop",
    ]
    assert any(word.startswith('{\n "format"') for word in words)


def test_a_worker_without_the_sink_of_the_run_refuses_its_shards(plan, tmp_path):
    worker = beam._ExecuteDoFn(plan, Shared(), NEVER)
    with pytest.raises(UnfitWorker, match=r"sink\.path .* is not the folder that the run was planned for; mount it"):
        worker.setup()
    Store(str(tmp_path / "out")).put(f"{names.PLANS}/{plan.run_id}.json", plan.to_json().encode())
    worker.setup()
    worker.teardown()


def test_a_worker_with_other_versions_names_the_difference(plan):
    worker = beam._ExecuteDoFn(plan, Shared(), NEVER)
    worker.versions = worker.versions | {"transformers": "4.0.0"}
    with pytest.raises(UnfitWorker, match=r"transformers \S+ instead of 4\.0\.0; install the same versions"):
        worker.setup()
