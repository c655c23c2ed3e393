"""Importing transformers' model code without the libraries that a job never calls."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

# Each test has a process of its own, because a module is imported once.
START = """
import sys
from transforms import lean

def absent():
    return [name for name in ("scipy.optimize", "accelerate", "torch._dynamo") if name not in sys.modules]
"""


def run(code: str) -> list[str]:
    """What code prints in a new process, after `START`."""
    command = [sys.executable, "-c", START + textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_libraries_that_no_job_calls_are_imported_by_whoever_asks_for_them():
    told = run("""
        lean.load()
        print(*absent())
        import accelerate, scipy.optimize, torch, transformers
        print(accelerate.__version__ != "", scipy.optimize.minimize.__module__, torch._dynamo.config.__name__)
        print([type(entry).__name__ for entry in sys.meta_path if type(entry).__module__.startswith("transforms.")])
    """)
    assert told == [
        "scipy.optimize accelerate torch._dynamo",
        "True scipy.optimize._minimize torch._dynamo.config",
        "[]",
    ]


def test_a_name_taken_by_transformers_is_the_library_s_when_it_is_used():
    told = run("""
        lean.load()
        from transformers.generation.utils import AlignDevicesHook
        from transformers.loss.loss_for_object_detection import PartialState, linear_sum_assignment
        print(*absent())
        print([list(map(int, found)) for found in linear_sum_assignment([[4, 1], [1, 4]])])
        print(PartialState._shared_state)
        from accelerate import hooks
        print(isinstance(hooks.AlignDevicesHook(), AlignDevicesHook), isinstance(hooks.ModelHook(), AlignDevicesHook))
        class Own(AlignDevicesHook): ...
        print(Own.__mro__[1] is hooks.AlignDevicesHook)
    """)
    assert told == ["scipy.optimize accelerate torch._dynamo", "[[0, 1], [1, 0]]", "{}", "True False", "True"]


def test_the_compiler_is_told_what_the_decorators_say():
    told = run("""
        lean.load()
        import torch
        from transformers import BertConfig, BertModel
        from transformers.integrations import deepgemm, eager_paged
        marked = eager_paged.eager_paged_attention_forward
        print(*absent())
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        model = BertModel(BertConfig(vocab_size=20, **sizes)).eval()
        ids = torch.tensor([[1, 2, 3]])
        with torch.inference_mode():
            compiled = torch.compile(model, backend="eager")(ids).last_hidden_state
            print(bool(torch.allclose(compiled, model(ids).last_hidden_state)))
        # As on a function that is decorated when the compiler is there already.
        @torch._dynamo.assume_constant_result
        def other(): ...
        print(set(vars(other)) <= set(vars(deepgemm.is_sm100)))
        try:
            torch.compile(lambda: marked(None, None, None, None, None), backend="eager", fullgraph=True)()
        except torch._dynamo.exc.Unsupported as error:
            print("disable" in str(error))
    """)
    assert told == ["scipy.optimize accelerate torch._dynamo", "True", "True", "True"]


@pytest.mark.parametrize(
    "prepare",
    [
        """
        # transformers makes objects of these classes on import.
        lean.LATER["torch.distributed.tensor"] = ("DTensor", "Shard", "Replicate")
        """,
        'lean.LATER["accelerate.utils"] = ()',
        'del lean.LATER["accelerate.utils.modeling"]',
        "lean.StandIn.__getattr__ = lambda self, name: 1 / 0",
    ],
    ids=["a name is used at once", "a name is unknown", "a module is unknown", "the import fails"],
)
def test_a_version_of_transformers_that_needs_more_gets_the_libraries_themselves(prepare):
    told = run(
        textwrap.dedent(prepare)
        + textwrap.dedent("""
        lean.load()
        import accelerate.utils.modeling, torch.distributed.tensor
        from transformers import modeling_utils
        from transformers.integrations.accelerate import clean_device_map
        from transformers.distributed import tensor_parallel
        print(clean_device_map({"a": 0, "b": 0}))
        print(isinstance(tensor_parallel.Shard(0), torch.distributed.tensor.Shard))
        print(any(isinstance(module, lean.StandIn) for module in sys.modules.values()))
    """)
    )
    assert told == ["{'': 0}", "True", "False"]


def test_libraries_for_networks_over_several_processes_are_imported_when_they_are_used():
    told = run("""
        lean.load()
        from transformers.distributed import checkpoint, fsdp
        print("torch.distributed.fsdp" in sys.modules, "torch.distributed.checkpoint" in sys.modules)
        policy = fsdp.CPUOffloadPolicy(pin_memory=False)
        import torch.distributed.checkpoint.hf_storage, torch.distributed.fsdp
        print(type(policy) is torch.distributed.fsdp.CPUOffloadPolicy, policy.pin_memory)
        reader = checkpoint.HuggingFaceStorageReader("folder")
        print(isinstance(reader, torch.distributed.checkpoint.hf_storage.HuggingFaceStorageReader))
    """)
    assert told == ["False False", "True False", "True"]
