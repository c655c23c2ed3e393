"""Trains what several folders ask for, in one process or in each of several: `python -m tests.jobs.training.learn A B`.

A process that trains needs ten seconds to start; tests of what it computes need one start for all of them.
"""

import sys
from pathlib import Path

from jobs.training import child
from jobs.training.request import Request

if __name__ == "__main__":
    for name in sys.argv[1:]:
        child.learn(Path(name), Request.read(Path(name)))
