"""Networks that change their own state while they compute: detected, and reset before each batch.

BigBird switches to full attention at its first short batch and keeps it for all later ones; Reformer keeps the number
of buckets of its first batch. A row's result must not depend on earlier batches, so such a network is reset to its
loaded state before every batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig
from transformers.initialization import no_init_weights

# Dictionaries of a module that are compared and restored item by item.
TABLES = ("_modules", "_parameters", "_buffers")


class Snapshot:
    """A copy of the attributes of a network's modules and configurations; weights are kept by reference."""

    def __init__(self, network: nn.Module):
        self.owners = _owners(network)
        self.held = [{name: _copied(value) for name, value in vars(owner).items()} for owner in self.owners]
        self.buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]

    def changes(self) -> list[str]:
        """Names of the attributes that changed since the snapshot, as `Class.attribute`."""
        found = {
            f"{type(owner).__name__}.{name}"
            for owner, held in zip(self.owners, self.held, strict=True)
            for name in held.keys() | vars(owner).keys()
            if name not in held or name not in vars(owner) or not _equal(held[name], vars(owner)[name])
        }
        values = {f"buffer {tuple(now.shape)}" for now, then in self.buffers if not torch.equal(now, then)}
        return sorted(found | values)

    def restore(self) -> None:
        """Reset everything to the snapshot."""
        for owner, held in zip(self.owners, self.held, strict=True):
            attributes = vars(owner)
            for name in attributes.keys() - held.keys():
                del attributes[name]
            attributes.update((name, _copied(value)) for name, value in held.items())
        for now, then in self.buffers:
            now.copy_(then)


@contextmanager
def kept(network: nn.Module) -> Iterator[None]:
    """Restore the network's state at the end of the block."""
    snapshot = Snapshot(network)
    try:
        yield
    finally:
        if snapshot.changes():
            snapshot.restore()


def from_start(compute: Callable[..., Any], snapshot: Snapshot) -> Callable[..., Any]:
    """The same computation, with the snapshot restored before each call."""

    def restored(**inputs: torch.Tensor) -> Any:
        snapshot.restore()
        # BigBird makes new layers in its forward pass, and gives them the weights of the old ones.
        with no_init_weights():
            return compute(**inputs)

    return restored


def seeded(compute: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """The same computation with the same random numbers in each call; the process's random state is not changed."""
    devices = [device] if device.type == "cuda" else []

    def repeated(**inputs: torch.Tensor) -> Any:
        with torch.random.fork_rng(devices):
            torch.manual_seed(0)
            return compute(**inputs)

    return repeated


def _owners(network: nn.Module) -> list[Any]:
    """The modules of a network and their configurations, without duplicates."""
    modules: list[Any] = list(network.modules())
    configs = {id(v): v for module in modules for v in vars(module).values() if isinstance(v, PretrainedConfig)}
    return [*modules, *configs.values()]


def _copied(value: Any) -> Any:
    return value.copy() if type(value) in (dict, list) else value


def _equal(then: Any, now: Any) -> bool:
    if then is now:
        return True
    if type(then) is not type(now):
        return False
    if isinstance(then, torch.Tensor) and then.is_meta and now.is_meta:
        # The weights of a layer that is kept on disk, while it does not compute.
        return then.shape == now.shape
    if isinstance(then, torch.Tensor):
        return then.shape == now.shape and torch.equal(then, now)
    if isinstance(then, dict):
        return then.keys() == now.keys() and all(_equal(value, now[name]) for name, value in then.items())
    if isinstance(then, list | tuple):
        return len(then) == len(now) and all(map(_equal, then, now))
    return isinstance(then, int | float | str) and then == now
