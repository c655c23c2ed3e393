"""Tiny models of every family of transformers that has a head for a text task, made from the family's configuration.

Sizes are set by the names that configurations give them; what a family needs beyond that is in MORE.
"""

from __future__ import annotations

import functools
import inspect
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING, PretrainedConfig, PreTrainedTokenizerBase
from transformers.models.auto import modeling_auto

from tests import tiny

LABELS = ("first", "second", "third")

HEADS: dict[str, dict[str, Any]] = {
    "AutoModelForSequenceClassification": modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    "AutoModelForTokenClassification": modeling_auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
    "AutoModelForQuestionAnswering": modeling_auto.MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES,
    "AutoModelForMaskedLM": modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
}

WIDTH, POSITIONS = 32, 128

SIZES: dict[float, str] = {
    WIDTH: "hidden_size d_model n_embd dim emb_dim embedding_size model_dim moe_intermediate_size entity_emb_size "
    "d_latents out_hidden_size projection_dim",
    64: "intermediate_size d_inner d_ff ffn_dim encoder_ffn_dim decoder_ffn_dim hidden_dim n_inner dff ffn_hidden_size "
    "feed_forward_size shared_expert_intermediate_size",
    2: "num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers depth layers num_decoder_layers "
    "num_attention_heads n_head n_heads num_heads encoder_attention_heads decoder_attention_heads num_key_value_heads "
    "num_kv_heads num_experts_per_tok type_vocab_size num_self_attends_per_block num_self_attention_heads "
    "num_cross_attention_heads linear_num_key_heads linear_num_value_heads",
    16: "head_dim d_kv d_head attention_head_size q_lora_rank kv_lora_rank qk_rope_head_dim qk_nope_head_dim "
    "v_head_dim num_latents linear_key_head_dim linear_value_head_dim",
    4: "num_local_experts num_experts n_routed_experts moe_num_experts entity_vocab_size",
    POSITIONS: "max_position_embeddings n_positions n_ctx max_seq_len max_source_positions "
    "max_encoder_position_embeddings max_decoder_position_embeddings",
    # Sharp outputs: what a text says must count for more than rounding.
    0.5: "initializer_range init_std",
}

# What a family needs beside its sizes.
MORE: dict[str, dict[str, Any]] = {
    "big_bird": {"block_size": 4, "num_random_blocks": 1},
    "bigbird_pegasus": {"block_size": 4, "num_random_blocks": 1},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "gptj": {"rotary_dim": 8},
    "longformer": {"attention_window": 8},
    "led": {"attention_window": 8},
    "reformer": {"axial_pos_embds": False, "local_attn_chunk_length": 8, "lsh_attn_chunk_length": 8, "hash_seed": None},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "zamba": {"layers_block_type": ["linear_attention", "hybrid", "hybrid"], "num_hidden_layers": 3},
    "zamba2": {"layers_block_type": ["linear_attention", "hybrid"], "n_mamba_heads": 4, "mamba_d_state": 16},
    "funnel": {"architectures": ["FunnelModel"]},
    "qwen3_next": {"layer_types": ["linear_attention", "full_attention"]},
    "qwen3_5_text": {"layer_types": ["linear_attention", "full_attention"]},
    "lilt": {"hidden_size": 48},
    "layoutlmv3": {"coordinate_size": 4, "shape_size": 8},
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
    "t5": {"decoder_start_token_id": 0},
    "cohere_compass_text": {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10000.0}}},
    "axk1": {"n_group": 2, "topk_group": 1},
    "axk2": {"n_group": 2, "topk_group": 1},
    "deepseek_v2": {"n_group": 2, "topk_group": 1},
    "deepseek_v3": {"n_group": 2, "topk_group": 1},
}


def config(family: str, vocabulary: int, **more: Any) -> PretrainedConfig:
    """The configuration of a tiny model of a family."""
    return _shrunk(CONFIG_MAPPING[family], vocabulary, more)


def _shrunk(kind: type[PretrainedConfig], vocabulary: int, more: dict[str, Any]) -> PretrainedConfig:
    names = inspect.signature(kind.__init__).parameters.keys() | kind.attribute_map.keys()
    sizes = {name: size for size, group in SIZES.items() for name in group.split() if name in names}
    whole = kind() if kind.sub_configs else None
    special = {name: id_ for name, id_ in more.items() if name.endswith("_token_id")}
    parts = {
        name: _shrunk(type(part), vocabulary, special)
        for name in kind.sub_configs
        if (part := getattr(whole, name, None)) is not None
    }
    return kind(**(sizes | parts | {"vocab_size": vocabulary} | MORE.get(kind.model_type, {}) | more))


def save(folder: Path, family: str, head: str, **more: Any) -> Path:
    """Save a tiny model of a family with a tokenizer.

    Args:
        folder: where.
        family: its `model_type`.
        head: name of an auto class, or `TextEncoder` for the body.
        more: what its configuration says beside that.
    """
    tokenizer = tokenizer_of(family)
    torch.manual_seed(0)
    made = config(
        family,
        len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
        sep_token_id=tokenizer.sep_token_id,
        id2label=dict(enumerate(LABELS[:2] if head == "AutoModelForQuestionAnswering" else LABELS)),
        **more,
    )
    if head == "TextEncoder":
        auto = transformers.AutoModelForTextEncoding if made.is_encoder_decoder else transformers.AutoModel
    else:
        auto = getattr(transformers, head)
    auto.from_config(made).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@functools.cache
def tokenizer_of(family: str) -> PreTrainedTokenizerBase:
    """The tokenizer that a family of models gets: BERT's kind, or the kind whose pairs its head expects."""
    return tiny.byte_level(POSITIONS // 2) if family in ("longformer", "led") else tiny.wordpiece(POSITIONS // 2)
