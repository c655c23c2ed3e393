"""Tiny decoder-only models, trained for a second until they say words and end: GPT-2, Llama, Qwen, Mistral, BLOOM."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoConfig,
    GPTNeoXConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MistralConfig,
    MistralForCausalLM,
    MixtralConfig,
    OPTConfig,
    Phi3Config,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tests.tiny import HARD, byte_pairs

WINDOW = 256
SPECIAL = ["<pad>", "<s>", "</s>", "<|user|>", "<|system|>", "<|model|>"]
WORDS = [
    *["the", "cat", "sat", "on", "a", "mat", "and", "ate", "fish", "soup", "with", "bread", "while", "red", "blue"],
    *["green", "birds", "sang", "of", "rain"],
    *["café", "naïve", "😀", "👩‍👩‍👧", "e\u0301te\u0301", "שלום", "مرحبا", "日本", '"', "{", "}", ":"],
]
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|model|>{% endif %}"
)


def sentences(n: int, seed: int = 0) -> list[str]:
    """Sentences of one to twelve words, hard ones among them."""
    rng = random.Random(seed)
    made = [" ".join(rng.choices(WORDS, k=rng.randint(1, 12))) for _ in range(n)]
    return [text[:120] for text in HARD[:9]] + made if n > len(HARD) else made


def tokenizer(chat: bool = False) -> PreTrainedTokenizerFast:
    """Byte-level BPE, with a chat template on request."""
    made = PreTrainedTokenizerFast(
        tokenizer_object=byte_pairs(sentences(300, seed=5), 420, SPECIAL),
        model_max_length=WINDOW,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=SPECIAL[3:],
    )
    if chat:
        made.chat_template = TEMPLATE
    return made


def network(family: str, vocabulary: int) -> PreTrainedModel:
    """A model of that family, untrained."""
    common = {"vocab_size": vocabulary, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    shape = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": WINDOW,
    }
    match family:
        case "gpt2":
            return GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=WINDOW, **common))
        case "llama":
            return LlamaForCausalLM(LlamaConfig(**shape, **common))
        case "qwen2":
            return Qwen2ForCausalLM(Qwen2Config(**shape, **common))
        case "qwen3":
            return Qwen3ForCausalLM(Qwen3Config(**shape, head_dim=16, **common))
        case "mistral":
            return MistralForCausalLM(MistralConfig(**shape, sliding_window=8, **common))
        case "bloom":
            return BloomForCausalLM(BloomConfig(hidden_size=32, n_layer=2, n_head=4, **common))
    raise ValueError(family)


def others() -> dict[str, PretrainedConfig]:
    """Configurations of more families, those with windows of 8 tokens and without keys and values among them."""
    common = {"vocab_size": 420, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.3}
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4} | common
    shape = {"intermediate_size": 64, "max_position_embeddings": WINDOW} | small
    grouped = {"num_key_value_heads": 2} | shape
    kinds = ["sliding_attention", "full_attention"]
    neo = {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]} | common
    return {
        "gemma2": Gemma2Config(**grouped, head_dim=16, sliding_window=8),
        "gemma3": Gemma3TextConfig(**grouped, head_dim=16, sliding_window=8, layer_types=kinds),
        "gpt_neo": GPTNeoConfig(**neo, window_size=8, max_position_embeddings=WINDOW),
        "gpt_neox": GPTNeoXConfig(**shape),
        "falcon": FalconConfig(**small),
        "mamba": MambaConfig(hidden_size=32, num_hidden_layers=2, state_size=4, **common),
        "mixtral": MixtralConfig(**grouped, num_local_experts=4),
        "opt": OPTConfig(**small, ffn_dim=64, max_position_embeddings=WINDOW, word_embed_proj_dim=32),
        "phi3": Phi3Config(**grouped, sliding_window=8),
    }


def train(model: PreTrainedModel, words: PreTrainedTokenizerFast, steps: int = 60) -> None:
    """Learn `text ->` and then the words that follow the text's last one in the list, to every ninth."""
    rng = random.Random(3)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    texts = sentences(400, seed=7)
    for _ in range(steps):
        prompts, answers = zip(*[_example(words, rng.choice(texts)) for _ in range(12)], strict=True)
        rows = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
        width = max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        labels = ids.masked_fill(ids == 0, -100)
        for row, prompt in zip(labels, prompts, strict=True):
            row[: len(prompt)] = -100
        loss = model(input_ids=ids, attention_mask=(ids != 0).long(), labels=labels).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()


def _example(words: PreTrainedTokenizerFast, text: str) -> tuple[list[int], list[int]]:
    last = WORDS.index(text.split()[-1]) if text.split()[-1] in WORDS else 0
    following = WORDS[last + 1 : (last + 1) // 9 * 9 + 9] or WORDS[:9]
    prompt, answer = words(f"{text} ->")["input_ids"], words("".join(f" {word}" for word in following))["input_ids"]
    return prompt[-40:], [*answer, 2]


def save(folder: Path, name: str) -> Path:
    """Train and save a model of a family with its tokenizer; `chat` is a Llama with a chat template."""
    torch.manual_seed(4)
    words = tokenizer(chat=name == "chat")
    model = network("llama" if name == "chat" else name, len(words)).eval()
    train(model, words)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder
