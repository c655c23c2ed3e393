"""What executes the shards of a plan: this machine, parts on other machines, or a runner of Beam."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from typing import Protocol, cast

from jobs.execute.stop import NEVER, StopToken
from jobs.models.pool import ModelPool
from jobs.plan import Plan
from jobs.source import Shard
from jobs.spec import JobSpec
from transforms import garbage
from transforms.errors import SpecError

# Packages register runners here, so that jobs/ never imports flows/: each entry is a module with the functions of
# `Runner`, under the name that `runner.name` has.
GROUP = "nightscribe.runners"


class Runner(Protocol):
    """Executes shards."""

    def check(self, spec: JobSpec) -> None:
        """Refuse what the section `runner` says, before anything is written.

        Raises:
            SpecError: an option that this runner does not know, or a server that is not there.
        """
        ...

    def execute(
        self, plan: Plan, todo: Sequence[Shard], models: ModelPool | None = None, stop: StopToken = NEVER
    ) -> None:
        """Execute some shards of a plan; each finished shard gets a staged entry in the ledger.

        Args:
            plan: the run, its sink held by this process.
            todo: shards of the plan.
            models: the model pool of this process; other processes make their own.
            stop: asks the run to stop.

        Raises:
            RunError: the error that stopped the run; finished shards are kept.
        """
        ...


def check(spec: JobSpec) -> None:
    """Refuse what the section `runner` of a job says, before anything is written.

    Raises:
        SpecError: an option that the runner does not know, or a server that is not there.
    """
    # Beam takes most of a second to import, so it is not asked about a job without options for it.
    if not spec.runner.is_here or spec.runner.options:
        find(spec.runner.name).check(spec)


def find(name: str) -> Runner:
    """The runner that `runner.name` names.

    Raises:
        SpecError: the package that has it is not installed.
    """
    for entry in importlib.metadata.entry_points(group=GROUP):
        if entry.name == name:
            return cast(Runner, entry.load())
    if name == "prefect":
        raise SpecError("runner.name is 'prefect', and this installation has no such runner; install nightscribe again")
    if name == "dask":
        return _dask()
    with garbage.importing("apache_beam"):
        from jobs.runners import beam

    return cast(Runner, beam)


def _dask() -> Runner:
    try:
        from jobs.runners import dask
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "distributed":
            raise
        raise SpecError("runner.name 'dask' needs distributed; pip install 'nightscribe[dask]'") from error
    return cast(Runner, dask)
