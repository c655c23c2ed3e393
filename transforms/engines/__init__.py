"""The engine that computes a loaded network: torch with layers optimised for the device, or ONNX Runtime.

    auto    the engine that was fastest in measurements on this kind of hardware; so far that is always torch
    torch   the last layer computes only what the head reads; on a CPU weights in oneDNN's layout with the GELU in the
            same pass, and int8 if asked for; on a GPU in half precision batches without padding
    onnx    ONNX Runtime on a CPU, in float32 (the extra `[onnx]`)

Speed relative to unmodified torch on a Xeon with VNNI (float32, DistilBERT's shape; tests/bench/README.md): ONNX
Runtime 0.90, engine torch 1.05, and 1.19 if the last layer computes only what classify reads. On an EPYC, where torch's
float32 product is slow, ONNX Runtime was faster than torch in float32; torch in bfloat16 was 1.7 times as fast again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from transforms.architecture import WRITERS
from transforms.errors import ModelError

if TYPE_CHECKING:
    import torch

    from transforms.by_row.selection import Selection
    from transforms.engines.ranges import Ranges

LOG = logging.getLogger(__name__)

ENGINES = ("auto", "torch", "onnx")

# The auto class of networks whose head may read only the first token.
FIRST_TOKEN = "AutoModelForSequenceClassification"

NO_ROWS = "engine onnx computes all rows with one adapter; use engine: auto for adapters by row (adapter_column)"


def choose(engine: str, dtype: str, device: torch.device) -> str:
    """The engine that `auto` selects; a named engine is checked against the dtype (auto allowed) and the device.

    Raises:
        ModelError: the engine cannot compute that, or is not installed.
    """
    # Imported here, because a plan chooses an engine too, and importing the networks takes seconds.
    if dtype == "int8":
        from transforms.engines import int8

        int8.check(device)
    if engine != "onnx":
        return "torch"
    if device.type != "cpu" or dtype not in ("auto", "float32"):
        raise ModelError(
            f"engine onnx computes float32 on a CPU, and this is {dtype} on {device.type}; use engine: auto, "
            f"or device: cpu and dtype: float32"
        )
    from transforms.engines import onnx

    onnx.check()
    return "onnx"


def prepare(
    network: Any,
    engine: str,
    dtype: str,
    head: str,
    names: frozenset[str],
    selection: Selection | None = None,
    ranges: Ranges | None = None,
) -> Callable[..., Any]:
    """Optimise a network for its device, in place.

    Args:
        network: in eval mode, on its device, in its dtype (float32 for int8).
        engine: torch or onnx.
        dtype: float32, bfloat16, float16 or int8.
        head: name of the auto class that loaded it.
        names: names of the inputs of its forward.
        selection: the adapters of the network, if each row has its own.
        ranges: for int8, of the inputs of its linear layers.

    Raises:
        ModelError: the engine cannot compute rows with adapters of their own.

    Returns:
        A function from keyword tensors on the host to a ModelOutput.
    """
    from transforms import device
    from transforms.engines import encoder, int8, onnx, unpadded

    if device.is_spread(network):
        # Each layer has hooks that bring its weights and inputs to its device; another layer would have none.
        return as_is(network)
    fused = encoder.fuse(network, first_token=head == FIRST_TOKEN)
    if engine == "onnx" and selection is not None:
        raise ModelError(NO_ROWS)
    if engine == "onnx":
        return onnx.export(network, names)
    if dtype == "int8":
        int8.quantise(network, ranges)
    elif fused and unpadded.available(network.device, network.dtype) and _computes_unpadded(network):
        return unpadded.unpad(network, selection)
    elif network.device.type == "cpu":
        _pack(network, checked=not fused and head not in WRITERS)
    return as_is(network)


def prepare_exact(network: Any, head: str) -> Callable[..., Any]:
    """Fuse a network in float32 as it is fused for int8, in place, and pack nothing: it can be quantised afterwards."""
    from transforms.engines import encoder

    encoder.fuse(network, first_token=head == FIRST_TOKEN)
    return as_is(network)


def as_is(network: Any) -> Callable[..., Any]:
    """A function from keyword tensors on the host to what the network returns."""
    from transforms import device
    from transforms.engines import unpadded

    where = device.of(network)

    def compute(**inputs: torch.Tensor) -> Any:
        return network(**{name: unpadded.to_device(tensor, where) for name, tensor in inputs.items()})

    return compute


def _pack(network: Any, checked: bool) -> None:
    """Pack the linear layers for the CPU, unless the network reads their weights (MobileBERT's language head does)."""
    import torch

    from transforms.engines import encoder, layers, packed
    from transforms.state import kept

    def sample() -> Any:
        try:
            with kept(network):
                return encoder.sample_output(network, network)
        except Exception:
            # If the unchanged network fails too, it needs more than arbitrary token ids: an end token, for example.
            return None

    want = sample() if checked else None
    replaced = packed.pack(network, network.dtype)
    if want is None or not replaced:
        return
    # In half precision outputs are not compared, because rounding depends on the layout. A network that reads the
    # weights of a packed layer fails, because a packed layer has none.
    exact = network.dtype == torch.float32
    if (got := sample()) is None or (exact and not encoder.same(got, want)):
        LOG.warning(
            "the linear layers of %s are not packed, because packed layers give other results", type(network).__name__
        )
        layers.put_back(replaced)


def _computes_unpadded(network: Any) -> bool:
    from transforms.engines import encoder, unpadded

    want = encoder.sample_output(network, network)
    try:
        got = encoder.sample_output(network, unpadded.unpad(network))
    except (RuntimeError, TypeError) as error:
        LOG.warning(
            "batches keep their padding, because %s cannot compute without it: %s", type(network).__name__, error
        )
        return False
    if not encoder.same(got, want):
        LOG.warning("batches keep their padding, because %s gives other results without it", type(network).__name__)
        return False
    return True
