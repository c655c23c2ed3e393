"""The libraries of a training, imported sooner: without looks for garbage, and without bitsandbytes if it has no use.

A process that trains a small adapter spends most of its time on its imports.
"""

from __future__ import annotations

import sys
from typing import Any, cast

from jobs.training.methods import qlora
from jobs.training.request import Request
from transforms import garbage

BITSANDBYTES = "bitsandbytes"


def libraries(request: Request) -> None:
    """Import what every training needs, in a process that does nothing but this training.

    Args:
        request: the training.
    """
    if not qlora.has_use(request) and BITSANDBYTES not in sys.modules:
        # PEFT imports it wherever it is installed, and it imports torch's compiler: two seconds of CPU. None in the
        # place of a module is Python's own way to say that there is none.
        sys.modules[BITSANDBYTES] = cast(Any, None)
    # Looking for garbage among what is imported takes half a second, at the beginning of each training (by accelerate)
    # and once more when the process ends.
    with garbage.importing("peft"):
        import datasets  # noqa: F401
        import peft  # noqa: F401
        import torch  # noqa: F401
        from transformers import Trainer  # noqa: F401
