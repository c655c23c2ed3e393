"""The section `runner`: a key of another runner is refused with the runner that has it."""

import pytest

from jobs.spec.runner import RunnerSpec


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"name": "local", "address": "tcp://a:1"}, "runner.address is a key of the runner dask"),
        ({"name": "prefect", "address": "tcp://a:1"}, "runner.address is a key of the runner dask"),
        ({"name": "dask", "address": "tcp://a:1", "work_pool": "w"}, "runner.work_pool is a key of the runner prefect"),
        ({"name": "FlinkRunner", "parts": 3}, "runner.parts is a key of the runner prefect and dask"),
        ({"at_once": 3}, "runner.at_once is a key of the runner prefect and dask, and runner.name is 'local'"),
        ({"name": "prefect", "options": {"job_name": "x"}}, "runner.options are Beam pipeline options"),
        ({"name": "prefect", "workers": 4}, "start several workers on a machine instead"),
        ({"name": "dask"}, "runner.address is missing"),
        ({"name": "prefect", "parts": 0}, "0 is not a number of parts; give 1 or more, or auto"),
        ({"name": "prefect", "at_once": -1}, "-1 is not a number of parts"),
        ({"workers": 0}, "0 is not a number of workers"),
    ],
)
def test_a_key_that_a_runner_does_not_have_is_refused(section, told):
    with pytest.raises(ValueError, match=told):
        RunnerSpec.model_validate(section)


def test_a_runner_that_divides_a_plan_takes_its_own_keys():
    assert RunnerSpec(name="prefect", work_pool="gpu", parts=40, at_once=8).fans_out
    assert RunnerSpec(name="dask", address="tcp://10.0.0.1:8786", parts="auto").fans_out
    assert RunnerSpec(workers=3).is_here
