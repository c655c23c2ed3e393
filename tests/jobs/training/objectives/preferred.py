"""Preferences that a tiny model learns in seconds: answers that end with bread are preferred to those with rain."""

import random

import pyarrow as pa

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "ate", "fish", "soup"]
# Checkpoints and evaluations take most of the time of so short a training.
FAST = {"per_device_train_batch_size": 8, "learning_rate": 1e-2, "num_train_epochs": 2, "logging_steps": 2}
FAST |= {"save_strategy": "no", "eval_strategy": "no"}
WIDE = {"r": 8, "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]}


def prompts(n, seed=0, longest=9):
    """Different prompts of words that the tiny models know."""
    rng, found = random.Random(seed), {}
    while len(found) < n:
        found[" ".join(rng.choices(WORDS, k=rng.randint(3, longest))) + " ->"] = None
    return list(found)


def pairs(n=120, seed=0, swapped=False, longest=9):
    """Prompt, chosen, rejected; half of the pairs at random the wrong way round if `swapped`."""
    rng = random.Random(seed + 1)
    rows = {"prompt": prompts(n, seed, longest), "chosen": [], "rejected": []}
    for _ in range(n):
        sides = [f" {rng.choice(WORDS)} bread", f" {rng.choice(WORDS)} rain"]
        if swapped and rng.random() < 0.5:
            sides.reverse()
        rows["chosen"].append(sides[0])
        rows["rejected"].append(sides[1])
    return pa.table(rows)


def singles(n=120, seed=0, swapped=False):
    """Prompt, completion, label; at random if `swapped`."""
    rng, table = random.Random(seed + 2), pairs(n, seed)
    labels = [i % 2 == 0 for i in range(n)]
    answers = [table["chosen" if label else "rejected"][i].as_py() for i, label in enumerate(labels)]
    if swapped:
        rng.shuffle(labels)
    return pa.table({"prompt": table["prompt"], "completion": answers, "label": labels})


def talks(table):
    """Pairs as conversations."""
    rows = table.to_pylist()
    turn = lambda role, text: [{"role": role, "content": text}]  # noqa: E731
    return pa.table(
        {
            "prompt": [turn("user", row["prompt"]) for row in rows],
            "chosen": [turn("assistant", row["chosen"].strip()) for row in rows],
            "rejected": [turn("assistant", row["rejected"].strip()) for row in rows],
        }
    )
