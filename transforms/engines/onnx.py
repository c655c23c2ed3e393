"""ONNX Runtime: the network is exported once, when it is loaded, for any batch size and length.

Needs the extra `[onnx]`. Exporting takes 15 s for DistilBERT-base, so it pays in long runs on processors where ONNX
Runtime is faster than torch.
"""

from __future__ import annotations

import importlib.util
import logging
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from transforms.errors import ModelError

# An export is accepted if its outputs on sample rows differ from torch's by no more than this.
TOLERANCE = 1e-4

NEEDS = ("onnxruntime", "onnx", "onnxscript")


def check() -> None:
    """Check that the packages are installed.

    Raises:
        ModelError: one is missing; the message has the command that installs them.
    """
    if missing := [name for name in NEEDS if importlib.util.find_spec(name) is None]:
        raise ModelError(
            f"engine onnx needs {', '.join(missing)}, not installed here; pip install 'nightscribe[onnx]', "
            f"or use engine: auto"
        )


def export(network: Any, names: frozenset[str]) -> Callable[..., Any]:
    """Export an encoder to ONNX Runtime.

    Args:
        network: in eval mode, in float32, on the CPU.
        names: names of the inputs of its forward; all are int64 `(batch, seq)`.

    Returns:
        A function that replaces the network: keyword tensors -> the same kind of ModelOutput.

    Raises:
        ModelError: the network cannot be exported, or the export gives other outputs.
    """
    check()
    import onnxruntime

    sample = _sample(network, names, rows=3, length=11)
    with torch.no_grad():
        kind, keys = type(want := network(**sample)), list(want)
    with tempfile.TemporaryDirectory(prefix="nightscribe-onnx-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        file = Path(folder) / "network.onnx"
        try:
            program = torch.onnx.export(
                _Outputs(network, keys, list(sample)),
                tuple(sample.values()),
                dynamo=True,
                verbose=False,
                input_names=list(sample),
                output_names=keys,
                dynamic_shapes=(tuple({0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC} for _ in sample),),
            )
            assert program is not None
            program.save(file, external_data=True)
        except Exception as error:
            raise ModelError(
                f"engine onnx cannot export {type(network).__name__}: {str(error).splitlines()[0]}; use engine: torch"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    taken = [node.name for node in session.get_inputs()]

    def compute(**inputs: torch.Tensor) -> Any:
        # A single text has no type ids. The network would fill in zeros (the first segment); the graph needs them as
        # an input.
        first = torch.zeros_like(inputs["input_ids"])
        outputs = session.run(keys, {name: inputs.get(name, first).numpy() for name in taken})
        return kind(**{key: torch.from_numpy(array) for key, array in zip(keys, outputs, strict=True)})

    _same(network, compute, names)
    return compute


def _same(network: Any, compute: Callable[..., Any], names: frozenset[str]) -> None:
    """Compare the export with the network on shapes that were not used in the export."""
    for rows, length in ((1, 5), (4, 17)):
        sample = _sample(network, names, rows, length)
        with torch.no_grad():
            want = network(**sample)
        got = compute(**sample)
        worst = max(float((got[key] - want[key]).abs().max()) for key in want)
        if worst > TOLERANCE:
            raise ModelError(
                f"engine onnx gives {type(network).__name__} outputs that differ from torch's by {worst:.1g}; "
                f"use engine: torch"
            )


def _sample(network: Any, names: frozenset[str], rows: int, length: int) -> dict[str, torch.Tensor]:
    ids = torch.arange(rows * length).reshape(rows, length) % network.config.vocab_size
    made = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    # One padded row, so that the mask stays part of the graph.
    made["attention_mask"][-1, length // 2 :] = 0
    return {name: made[name] for name in made if name in names}


class _Outputs(nn.Module):
    """A network that returns its outputs as a plain tuple of tensors."""

    def __init__(self, network: nn.Module, keys: list[str], names: list[str]):
        super().__init__()
        self.network, self.keys, self.names = network, keys, names

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The outputs in the order of `keys`."""
        outputs = self.network(**dict(zip(self.names, inputs, strict=True)))
        return tuple(outputs[key] for key in self.keys)
