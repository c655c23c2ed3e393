"""Encoder layers of BERT-like models, reduced to what inference needs.

Queries, keys and values are computed in one matrix product. The last layer of a sequence classifier computes only the
first token, because the head reads no other: keys and values still need every token; queries, output projection and
feed-forward do not. That saves 5/6 of a layer: 14 % of DistilBERT's matrix products, 7 % of BERT-base's. Batches may be
unpadded (`transforms.engines.unpadded`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from transformers.cache_utils import Cache

from transforms.by_row import layers
from transforms.by_row.layers import LowRankLinear
from transforms.engines import unpadded
from transforms.engines.unpadded import Packing


@dataclass(frozen=True)
class LayerParts:
    """The modules of a post-norm encoder layer, which normalises after each residual sum."""

    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    out: nn.Linear
    norm: nn.Module
    up: nn.Linear
    activation: nn.Module
    down: nn.Linear
    output_norm: nn.Module
    heads: int


def _bert(layer: Any) -> LayerParts:
    attention, output = layer.attention.self, layer.attention.output
    return LayerParts(
        attention.query,
        attention.key,
        attention.value,
        output.dense,
        output.LayerNorm,
        layer.intermediate.dense,
        layer.intermediate.intermediate_act_fn,
        layer.output.dense,
        layer.output.LayerNorm,
        attention.num_attention_heads,
    )


def _distilbert(layer: Any) -> LayerParts:
    attention, ffn = layer.attention, layer.ffn
    return LayerParts(
        attention.q_lin,
        attention.k_lin,
        attention.v_lin,
        attention.out_lin,
        layer.sa_layer_norm,
        ffn.lin1,
        ffn.activation,
        ffn.lin2,
        layer.output_layer_norm,
        attention.n_heads,
    )


# By name, because to import all of them takes 0.1 s, and a model has one.
LAYERS: dict[str, Callable[[Any], LayerParts]] = {
    "transformers.models.bert.modeling_bert.BertLayer": _bert,
    "transformers.models.camembert.modeling_camembert.CamembertLayer": _bert,
    "transformers.models.distilbert.modeling_distilbert.TransformerBlock": _distilbert,
    "transformers.models.electra.modeling_electra.ElectraLayer": _bert,
    "transformers.models.roberta.modeling_roberta.RobertaLayer": _bert,
    "transformers.models.xlm_roberta.modeling_xlm_roberta.XLMRobertaLayer": _bert,
}


class EncoderLayer(nn.Module):
    """`(batch, seq, hidden)` -> the same, or `(batch, 1, hidden)` if only the first token is needed.

    With a `Packing` the rows of a batch are concatenated, `(tokens, hidden)`: the first layer removes the padding and
    the last one adds it again.
    """

    # Linear layer, activation, linear layer, where nothing else reads what is between them.
    CHAINS = (("up", "activation", "down"),)

    def __init__(self, parts: LayerParts, index: int, is_last: bool, first_token: bool):
        super().__init__()
        self.heads, self.index, self.is_last, self.first_token = parts.heads, index, is_last, first_token
        self.query: nn.Linear | None
        if first_token:
            self.query, self.joined = parts.query, _join(parts.key, parts.value)
        else:
            self.query, self.joined = None, _join(parts.query, parts.key, parts.value)
        self.out, self.norm = parts.out, parts.norm
        self.up, self.activation, self.down = parts.up, parts.activation, parts.down
        self.output_norm = parts.output_norm

    def forward(
        self,
        hidden: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        *_: Any,
        packing: Packing | None = None,
        past_key_values: Cache | None = None,
        **__: Any,
    ) -> torch.Tensor:
        """Attend, add, normalise; feed forward, add, normalise."""
        if packing is not None and self.index == 0:
            hidden = packing.pack(hidden)
        wanted = hidden
        if self.first_token:
            wanted = hidden[:, :1] if packing is None else packing.first(hidden)
        if self.query is not None:
            query = self.query(wanted)
            key, value = self.joined(hidden).chunk(2, dim=-1)
        else:
            query, key, value = self.joined(hidden).chunk(3, dim=-1)
            if self.first_token:
                query = query[:, :1] if packing is None else packing.first(query)
        query, key, value = (rows.unflatten(-1, (self.heads, -1)) for rows in (query, key, value))
        if past_key_values is not None:
            # Prefix tuning: trained keys and values before those of the batch.
            key, value = past_key_values.update(key.transpose(1, 2), value.transpose(1, 2), self.index)
            key, value = key.transpose(1, 2), value.transpose(1, 2)
        if packing is None:
            context = _attend(query, key, value, attention_mask)
        else:
            context = unpadded.attend(query, key, value, packing, self.first_token)
        attended = self.norm(self.out(context.flatten(-2)).add_(wanted))
        output = self.output_norm(_plus(self.down, self.activation(self.up(attended)), attended))
        if packing is None or not self.is_last:
            return output
        return output[:, None] if self.first_token else packing.pad(output)


def fuse(network: Any, first_token: bool) -> bool:
    """Replace the layers of an encoder of a known architecture, if that changes no output.

    Args:
        network: in eval mode; changed in place.
        first_token: whether the head may read only the first token.

    Returns:
        Whether the layers were replaced. They are if they are known and the outputs of a padded batch do not change. A
        last layer for the first token only is tried first, then a full one.
    """
    if (found := _layers(network)) is None:
        return False
    whole, want = list(found), sample_output(network, network)
    for last_alone in (True, False) if first_token else (False,):
        for i, layer in enumerate(whole):
            last = i == len(whole) - 1
            found[i] = EncoderLayer(LAYERS[_name(layer)](layer), i, last, last and last_alone)
        try:
            if same(sample_output(network, network), want):
                return True
        except (RuntimeError, TypeError, ValueError):
            # The code around the layers passes arguments that they do not take.
            continue
    for i, layer in enumerate(whole):
        found[i] = layer
    return False


def keep_first_token(network: Any, compute: Callable[..., Any]) -> bool:
    """Let the last layer compute only the first token, for a caller that reads no other; see `EncoderLayer`.

    The layers have been laid out before, so the queries of all tokens are still computed, 1/12 of the layer's products.

    Args:
        network: as `prepare` left it; changed in place.
        compute: what computes it: keyword tensors of the host -> ModelOutput.

    Returns:
        Whether it does: the network has such a layer, `compute` runs it, and the first token's output stays.
    """
    layers = [module for module in network.modules() if isinstance(module, EncoderLayer) and module.is_last]
    if len(layers) != 1 or layers[0].first_token:
        return False
    want = sample_output(network, compute)[:, :1]
    layers[0].first_token = True
    # In int8 the scale of the activations may depend on the tokens that are computed, so equal means roughly equal.
    if not same(sample_output(network, compute).bfloat16(), want.bfloat16()):
        layers[0].first_token = False
    return layers[0].first_token


def same(got: torch.Tensor, want: torch.Tensor) -> bool:
    """Whether two outputs are equal except for rounding in their dtype."""
    tolerance = 1e-4 if want.dtype == torch.float32 else 3e-2
    return got.shape == want.shape and bool((got - want).abs().max() <= tolerance * want.abs().max())


def sample_output(network: Any, compute: Callable[..., Any]) -> torch.Tensor:
    """The first output of `compute` for two rows of tokens; the second row has padding."""
    ids = torch.arange(24).reshape(2, 12) % network.config.vocab_size
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    with torch.inference_mode():
        output = compute(input_ids=ids.to(network.device), attention_mask=mask.to(network.device))[0]
    # Outputs at padding positions are ignored.
    return output * mask[..., None].to(output) if output.shape[:2] == mask.shape and output.ndim == 3 else output


def _layers(network: Any) -> nn.ModuleList | None:
    """The encoder's layers, if `EncoderLayer` can replace all of them."""
    lists = (module for module in network.modules() if isinstance(module, nn.ModuleList) and len(module))
    layers = next((found for found in lists if all(_name(layer) in LAYERS for layer in found)), None)
    config = network.config
    if layers is None or config.is_encoder_decoder or config._attn_implementation != "sdpa":
        return None
    return None if any(getattr(layer, "is_decoder", False) for layer in layers) else layers


def _name(layer: nn.Module) -> str:
    return f"{type(layer).__module__}.{type(layer).__qualname__}"


def _join(*linears: Any) -> Any:
    """One layer with the concatenated outputs of several layers, the terms of adapters by row included."""
    if any(isinstance(linear, LowRankLinear) for linear in linears):
        return layers.join(linears, _join)
    first = linears[0]
    bias = None if first.bias is None else torch.cat([linear.bias for linear in linears])
    weight = torch.cat([linear.weight for linear in linears])
    joined: Any = nn.Linear(first.in_features, len(weight), bias=bias is not None, device="meta")
    joined.weight = nn.Parameter(weight, requires_grad=False)
    joined.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
    return joined


def _plus(linear: nn.Module, rows: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
    """The output of a layer plus a residual that nothing else reads."""
    if (add := getattr(linear, "add", None)) is not None:
        return add(rows, residual)
    return linear(rows) + residual


def _attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Attention: queries `(batch, queries, heads, width)`, keys and values `(batch, seq, heads, width)`."""
    mask = None if mask is None else mask[:, :, : query.shape[1]]
    q, k, v = (rows.transpose(1, 2) for rows in (query, key, value))
    return scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)
