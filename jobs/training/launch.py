"""Starts the processes of a training, and says which of them was killed: `python -m jobs.training.launch FOLDER`.

torchrun neither ends when its parent is killed, nor says in one sentence what happened.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from jobs.training import lifetime
from jobs.training.request import ENDED, Request, write_json

MODULE = "jobs.training.child"


def main(folder: Path) -> int:
    """Start the processes that the folder asks for and wait for them; returns the exit code."""
    lifetime.end_with_parent()
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    request = Request.read(folder)
    os.environ[lifetime.PARENT] = str(os.getpid())
    try:
        if request.accelerate_config is not None and os.environ.get("ACCELERATE_USE_CPU") != "1":
            _accelerate(request, folder)
        else:
            _torchrun(request, folder)
    except ChildFailedError as error:
        codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
        # Other processes are told to end by SIGTERM.
        killed = [rank for rank, code in codes.items() if code < 0 and code != -15]
        first = killed[0] if killed else error.get_first_failure()[0]
        write_json(folder / ENDED, {"process": first, "code": codes[first]})
        return 1
    except SignalException:
        return 1
    return 0


def _torchrun(request: Request, folder: Path) -> None:
    """Processes over all GPUs, or on the CPU; with a free port, so that several trainings can run at once."""
    from torch.distributed.run import get_args_parser, run

    free = ["--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", f"--rdzv-id={os.getpid()}", "--local-addr=127.0.0.1"]
    run(get_args_parser().parse_args([*free, f"--nproc-per-node={request.processes}", "-m", MODULE, str(folder)]))


def _accelerate(request: Request, folder: Path) -> None:
    """As `accelerate launch --config_file`, which sets the variables of FSDP or DeepSpeed for torchrun."""
    from accelerate.commands.launch import launch_command, launch_command_parser

    launch_command(launch_command_parser().parse_args(arguments(request, folder)))


def arguments(request: Request, folder: Path) -> list[str]:
    """The words after `accelerate launch`."""
    precision = ["--mixed_precision", request.mixed_precision] if request.mixed_precision else []
    config = ["--config_file", str(request.accelerate_config), "--num_processes", str(request.processes)]
    return [*config, "--main_process_port", "0", *precision, "--module", MODULE, str(folder)]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
