"""The section `runner`: what executes the plan, and how it is spread over processes and machines."""

from __future__ import annotations

from typing import Any, Literal

import pydantic
from pydantic import Field

from jobs.spec.section import Section

# Runners that divide a plan into parts, and the key that only this runner has.
FAN_OUT = {"prefect": "work_pool", "dask": "address"}
# Keys that only these runners have.
_OF_FAN_OUT = ("parts", "at_once")


class RunnerSpec(Section):
    """What executes the plan: this machine, many machines, or a cluster that runs Beam pipelines."""

    name: str = Field(
        "local",
        description="local: this machine. prefect: workers of a Prefect work pool. dask: a Dask cluster. Otherwise a "
        "Beam runner by name or dotted path",
    )
    workers: int | Literal["auto"] = Field(
        "auto",
        description="local: processes that execute shards at a time; auto: measured once for a machine and its "
        "models, one for each GPU",
    )
    options: dict[str, Any] = Field(default_factory=dict, description="Beam pipeline options, checked and passed on")
    parts: int | Literal["auto"] = Field(
        "auto",
        description="prefect and dask: into how many parts the shards are divided; auto: parts of about 15 minutes, "
        "smaller towards the end",
    )
    at_once: int | Literal["auto"] = Field(
        "auto", description="prefect and dask: maximum number of parts that run at a time; auto: one for each worker"
    )
    work_pool: str | None = Field(None, description="prefect: the work pool whose workers execute the parts")
    address: str | None = Field(None, description="dask: address of the scheduler, such as tcp://10.0.0.1:8786")

    @pydantic.field_validator("workers", "parts", "at_once")
    @classmethod
    def _positive(cls, value: int | str, info: pydantic.ValidationInfo) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError(
                f"{value} is not a number of {str(info.field_name).replace('at_once', 'parts')}; "
                f"give 1 or more, or auto"
            )
        return value

    @pydantic.model_validator(mode="after")
    def _has_its_own_keys(self) -> RunnerSpec:
        given = {key for key in (*_OF_FAN_OUT, *FAN_OUT.values()) if getattr(self, key) not in (None, "auto")}
        of_this = {*_OF_FAN_OUT, FAN_OUT[self.name]} if self.name in FAN_OUT else set()
        for key in sorted(given - of_this):
            runners = [name for name, own in FAN_OUT.items() if key in (*_OF_FAN_OUT, own)]
            raise ValueError(
                f"runner.{key} is a key of the runner {' and '.join(runners)}, and runner.name is {self.name!r}; "
                f"remove it, or change runner.name"
            )
        if self.name in FAN_OUT and self.workers != "auto":
            raise ValueError(
                f"runner.workers is for one machine, and each worker of the runner {self.name!r} executes its part in "
                f"one process; start several workers on a machine instead (one for each GPU, with "
                f"CUDA_VISIBLE_DEVICES), and limit them with runner.at_once"
            )
        if self.name in FAN_OUT and self.options:
            raise ValueError(
                f"runner.options are Beam pipeline options, which the runner {self.name!r} does not have; remove them"
            )
        if self.name == "dask" and self.address is None:
            raise ValueError(
                "runner.address is missing; the runner dask needs the address of a scheduler, such as "
                "tcp://10.0.0.1:8786"
            )
        return self

    @property
    def is_here(self) -> bool:
        """Whether this machine executes the plan."""
        return self.name == "local"

    @property
    def fans_out(self) -> bool:
        """Whether the plan is divided into parts that other machines execute."""
        return self.name in FAN_OUT
