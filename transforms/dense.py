"""The dense layers of a sentence-transformers folder."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from transforms.checkpoint import weights
from transforms.errors import ModelError
from transforms.sentence import read_json

WEIGHTS = ("model.safetensors", "pytorch_model.bin")


class Dense(nn.Module):
    """A linear layer with an activation, and a residual if the folder has one: `(batch, in)` -> `(batch, out)`."""

    def __init__(self, folder: str):
        super().__init__()
        config = read_json(Path(folder) / "config.json")
        size = config["in_features"], config["out_features"]
        self.linear = nn.Linear(*size, bias=config.get("bias", True))
        self.activation = _activation(config.get("activation_function"), folder)
        self.adds_input = config.get("use_residual", False)
        if self.adds_input and size[0] != size[1]:
            self.residual = nn.Linear(*size, bias=False)
        stored = weights.read(weights.find(folder, WEIGHTS))
        wanted = {name: tuple(tensor.shape) for name, tensor in self.state_dict().items()}
        if wanted != {name: tensor.shape for name, tensor in stored.items()}:
            raise ModelError(f"{folder} has weights of another shape than its config.json says; copy it again")
        self.load_state_dict(_weights(Path(folder)))

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Project."""
        projected = self.activation(self.linear(vectors))
        if not self.adds_input:
            return projected
        return projected + (self.residual(vectors) if hasattr(self, "residual") else vectors)


def _activation(name: str | None, folder: str) -> nn.Module:
    """The activation that a folder names. Only classes of torch.nn: a model must not decide what is imported."""
    if name is None:
        return nn.Tanh()
    module, _, kind = name.rpartition(".")
    found = getattr(nn, kind, None)
    if not (module.startswith("torch.nn.modules") and isinstance(found, type) and issubclass(found, nn.Module)):
        raise ModelError(f"{folder} has the activation {name!r}; embed takes those of torch.nn only")
    return found()


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    if (folder / "model.safetensors").is_file():
        return load_file(folder / "model.safetensors")
    return torch.load(folder / "pytorch_model.bin", map_location="cpu", weights_only=True)
