"""What computes a loaded network: torch with its layers laid out for the device, or ONNX Runtime.

    auto    what measured fastest on the hardware at hand, which so far is torch on all of it
    torch   last layers no wider than their head reads; on a CPU oneDNN's layout with the GELU in the same pass, int8
            on request; on a GPU in half precision batches without padding
    onnx    ONNX Runtime on a CPU, in float32 (the extra `[onnx]`)

ONNX Runtime was 0.90 of torch as it comes on a Xeon with VNNI, where engine torch is 1.05, and 1.19 with the last
layer cut to what classify reads (float32, DistilBERT's shape; tests/bench/README.md). On an EPYC whose torch has a slow
float32 product it was faster than torch in float32; in bfloat16 torch was 1.7 times as fast again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from transforms.architecture import WRITERS
from transforms.errors import ModelError

if TYPE_CHECKING:
    import torch

LOG = logging.getLogger(__name__)

ENGINES = ("auto", "torch", "onnx")


def choose(engine: str, dtype: str, device: torch.device) -> str:
    """The engine that `auto` selects; a named engine is checked against the dtype (auto allowed) and the device.

    Raises:
        ModelError: the engine cannot compute that, or is not installed.
    """
    # A plan chooses an engine too, and the networks that engines know take seconds to import.
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


def prepare(network: Any, engine: str, dtype: str, head: str, names: frozenset[str]) -> Callable[..., Any]:
    """Optimise a network for its device, in place.

    Args:
        network: in eval mode, on its device, in its dtype (float32 for int8).
        engine: torch or onnx.
        dtype: float32, bfloat16, float16 or int8.
        head: name of the auto class that loaded it.
        names: inputs that its forward will get.

    Returns:
        What to call with keyword tensors of the host for a ModelOutput.
    """
    from transforms.engines import encoder, int8, onnx, unpadded

    fused = encoder.fuse(network, first_token=head == "AutoModelForSequenceClassification")
    if engine == "onnx":
        return onnx.export(network, names)
    if dtype == "int8":
        int8.quantise(network)
    elif fused and unpadded.available(network.device, network.dtype) and _computes_unpadded(network):
        return unpadded.unpad(network)
    elif network.device.type == "cpu":
        _pack(network, checked=not fused and head not in WRITERS)

    def compute(**inputs: torch.Tensor) -> Any:
        return network(**{name: unpadded.to_device(tensor, network.device) for name, tensor in inputs.items()})

    return compute


def _pack(network: Any, checked: bool) -> None:
    """Lay linear layers out for the CPU; not if the network reads their weights, as MobileBERT's language head does."""
    import torch

    from transforms.engines import encoder, layers, packed
    from transforms.state import kept

    def sample() -> Any:
        try:
            with kept(network):
                return encoder.sample_output(network, network)
        except Exception:
            # Without packed layers: it needs more than any token ids, an end token in each text, say.
            return None

    want = sample() if checked else None
    replaced = packed.pack(network, network.dtype)
    if want is None or not replaced:
        return
    # Rounding of half precision differs from layout to layout, and a layer that is read from outside is empty.
    exact = network.dtype == torch.float32
    if (got := sample()) is None or (exact and not encoder.same(got, want)):
        LOG.warning("linear layers of %s stay as they are: packed ones give something else", type(network).__name__)
        layers.put_back(replaced)


def _computes_unpadded(network: Any) -> bool:
    from transforms.engines import encoder, unpadded

    want = encoder.sample_output(network, network)
    try:
        got = encoder.sample_output(network, unpadded.unpad(network))
    except (RuntimeError, TypeError) as error:
        LOG.warning("batches keep their padding: %s cannot compute without it: %s", type(network).__name__, error)
        return False
    if not encoder.same(got, want):
        LOG.warning("batches keep their padding: %s gives other results without it", type(network).__name__)
        return False
    return True
