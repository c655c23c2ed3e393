"""New tokens a second of a whole generate job, file to file, against generate() by hand.

    python -m tests.bench.generate [--rows 192] [--repeats 3] [--generate-batch]

Every arm loads the model, reads the same Parquet file and writes Parquet; all of that is timed. The arms take turns in
one process, repeat by repeat; medians are of the repeats; the last line is JSON.

    job             nightscribe
    generate N      tokenizer and model.generate() over N rows at a time, sorted by length, padded on the left
    generate_batch  transformers' own continuous batching, on request: on a CPU it takes minutes

The model has a Llama's shape (6 layers, 512 wide, 32,000 tokens) and random layers, so that a step costs what it costs.
What it says is by construction: its embeddings and output rows make the token `n7` be followed by `n6`, and `n0` by the
end token, whatever the layers add. So the last word of a prompt says how long the text will be, and nothing else does:
half have 16 tokens or fewer, a few a hundred and more (log-normal, sigma 1.1). Every arm has to write the same texts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    ContinuousBatchingConfig,
    LlamaConfig,
    LlamaForCausalLM,
)

from jobs import run, spec
from tests.bench import corpus
from transforms.device import DTYPES, choose_device

VOCABULARY, LONGEST, WINDOW = 32_000, 256, 2048
PROMPT = "Say in a few words what this customer wants from us : {text}"


def model(folder: Path) -> Path:
    """A Llama that counts down."""
    torch.manual_seed(0)
    words = ["<pad>", "</s>", "<unk>", *(f"n{i}" for i in range(LONGEST))]
    words += [word for word in PROMPT.split() if word != "{text}"]
    words += [f"w{i}" for i in range(VOCABULARY - len(words))]
    tokenizer = corpus.word_level(words, WINDOW, padding_side="left")
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=6,
        num_attention_heads=8,
        max_position_embeddings=WINDOW,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
    )
    network = LlamaForCausalLM(config)
    with torch.no_grad():
        embeddings = torch.randn(VOCABULARY, config.hidden_size)
        network.model.embed_tokens.weight.copy_(embeddings)
        network.lm_head.weight.copy_(torch.randn(VOCABULARY, config.hidden_size) * 0.02)
        # The token that follows n0, n1, n2 ...: its output row points where theirs points in.
        network.lm_head.weight[[1, *range(3, 2 + LONGEST)]] = embeddings[3 : 3 + LONGEST] * 0.05
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write(file: Path, rows: int, seed: int = 0) -> int:
    """Prompts of skewed lengths that ask for texts of skewed lengths; gives how many tokens they ask for."""
    rng = np.random.default_rng(seed)
    prompts = np.clip(rng.lognormal(np.log(40), 0.8, rows), 2, 800).astype(int)
    asked = np.clip(rng.lognormal(np.log(16), 1.1, rows), 1, LONGEST).astype(int)
    texts = [
        " ".join(f"w{i}" for i in rng.integers(0, 20_000, n)) + f" n{m - 1}"
        for n, m in zip(prompts, asked, strict=True)
    ]
    pq.write_table(pa.table({"text": texts}), file)
    return int(asked.sum())


def job(folder: Path, source: Path, sink: Path, dtype: str) -> list[str]:
    """The job, through the same call as the command."""
    task = {"task": "generate", "prompt": PROMPT, "model": str(folder), "into": "reply", "max_new_tokens": LONGEST}
    content = {
        "name": "generate",
        "source": {"path": str(source)},
        "tasks": [task | {"dtype": dtype}],
        "sink": {"path": str(sink)},
    }
    run.run(spec.parse(content))
    (part,) = sink.glob("*.parquet")
    return pq.read_table(part)["reply"].to_pylist()


def by_hand(folder: Path, source: Path, sink: Path, dtype: str, size: int) -> list[str]:
    """generate() over `size` rows at a time; 0 is generate_batch over all."""
    device = choose_device("auto")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=DTYPES[dtype]).to(device).eval()
    table = pq.read_table(source)
    ids = tokenizer([PROMPT.format(text=text) for text in table["text"].to_pylist()])["input_ids"]
    new: list[list[int]] = [[] for _ in ids]
    if size:
        order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
        for batch in (order[i : i + size] for i in range(0, len(order), size)):
            inputs = tokenizer.pad({"input_ids": [ids[i] for i in batch]}, return_tensors="pt").to(device)
            for i, row in zip(batch, network.generate(**inputs, max_new_tokens=LONGEST), strict=True):
                new[i] = row[inputs["input_ids"].shape[1] :].tolist()
    else:
        # Compiling, which it does by default, takes longer than the whole run.
        how = ContinuousBatchingConfig(default_compile_level=0)
        found = network.generate_batch(ids, max_new_tokens=LONGEST, continuous_batching_config=how)
        new = [found[key].generated_tokens for key in sorted(found, key=lambda key: int(key.rsplit("_", 1)[-1]))]
    replies = tokenizer.batch_decode(new, skip_special_tokens=True)
    pq.write_table(table.append_column("reply", pa.array(replies)), sink, compression="zstd")
    return replies


def main() -> None:
    """Run the arms in turn and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=192)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtype", choices=list(DTYPES), default="float32")
    parser.add_argument("--generate-batch", action="store_true")
    arguments = parser.parse_args()
    arms: dict[str, tuple[Callable[..., list[str]], tuple]] = {
        "job": (job, ()),
        "generate 16": (by_hand, (16,)),
        "generate 32": (by_hand, (32,)),
    }
    if arguments.generate_batch:
        arms["generate_batch"] = (by_hand, (0,))
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        folder, source = model(root / "model"), root / "source.parquet"
        tokens = write(source, arguments.rows)
        replies = None
        for repeat in range(arguments.repeats):
            for name, (call, extra) in arms.items():
                started = time.perf_counter()
                found = call(folder, source, root / f"{name}-{repeat}".replace(" ", "-"), arguments.dtype, *extra)
                seconds[name].append(time.perf_counter() - started)
                print(f"{repeat} {name:<16} {tokens / seconds[name][-1]:>9,.0f} tokens/s", flush=True)
                replies = found if replies is None else replies
                if found != replies:
                    differ = sum(one != other for one, other in zip(found, replies, strict=True))
                    raise SystemExit(f"{name} wrote other texts than the job in {differ} rows")
    rate = {name: tokens / statistics.median(values) for name, values in seconds.items()}
    best = max(value for name, value in rate.items() if name != "job")
    print(f"\n{'arm':<16} {'tokens/s':>10} {'x':>7}   spread")
    for name, value in rate.items():
        spread = f"{tokens / max(seconds[name]):,.0f} to {tokens / min(seconds[name]):,.0f}"
        print(f"{name:<16} {value:>10,.0f} {value / best:>7.2f}   {spread}")
    summary = {
        "bench": "generate",
        "rows": arguments.rows,
        "new_tokens": tokens,
        "repeats": arguments.repeats,
        "dtype": arguments.dtype,
        "tokens_per_s": {name: round(value) for name, value in rate.items()},
        "job_over_best_generate": round(rate["job"] / best, 2),
        "versions": corpus.versions(),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
