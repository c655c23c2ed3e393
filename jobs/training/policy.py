"""Training of a policy by the rewards of the answers that it writes itself: RLOO and GRPO, the last step of RLHF.

RLOO: Ahmadian et al. 2024, arXiv 2402.14740. GRPO: Shao et al. 2024, arXiv 2402.03300. The prompts are the tokens that
the nightly task makes of them, and the answers are scored as `jobs.training.rewards` scores them everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pyarrow as pa

from jobs.training import methods
from jobs.training.exchanges import Exchanges
from jobs.training.request import Request
from jobs.training.rewards import Reward, Scorer, examples
from jobs.training.setup import Setup, window
from transforms import template
from transforms.errors import ModelError, SpecError
from transforms.generation.prompt import Prompts

# Answers to one prompt that are compared with each other.
GENERATIONS = {"rloo": 4, "grpo": 8}
BATCH = 16
# Of all weights; adapters have the rate of their method. TRL's examples have a twentieth of that for LoRA, at which a
# tiny model did not change its answers in 33 steps; here the divergence is limited (jobs/training/kl.py).
FULL_LEARNING_RATE = 5e-6


def build(request: Request) -> Setup:
    """The network, its prompts, and the trainer with the rewards.

    Raises:
        ModelError: conversations without a chat template, a prompt that does not fit, or a reward that fails.
    """
    from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

    from jobs.training import causal
    from jobs.training.kl import limited

    tokenizer, network = causal.parts(request)
    tokenizer.padding_side = "left"
    count_positions(network)
    ids_of = encoder(request, tokenizer, network.config)
    reward = Reward(**request.reward)
    kind, arguments = (RLOOTrainer, RLOOConfig) if request.objective == "rloo" else (GRPOTrainer, GRPOConfig)
    return Setup(
        kind=(limited(kind, ids_of, reward.max_kl), arguments),
        network=network,
        tokenizer=tokenizer,
        encode=examples,
        arguments=defaults(request),
        fixed={"remove_unused_columns": False, "eval_strategy": "no"},
        more={"reward_funcs": reward_functions(reward, request.arguments)},
        lengths=None,
        validated=False,
        repeats=generations(request.objective, request.arguments),
    )


def encoder(request: Request, tokenizer: Any, config: Any) -> Callable[[Sequence[Any]], list[list[int]]]:
    """A function from prompts to their tokens, the same as those of the nightly task.

    Args:
        request: the training.
        tokenizer: of the base.
        config: of the base.

    Raises:
        ModelError: there is no room for an answer, or `chat` is always and there is no chat template.
    """
    options = request.options
    room = (window(tokenizer, config, request) or 10**9) - answer_length(options, request.arguments)
    cut = options.get("long_text") == "truncate"
    model: Any = SimpleNamespace(tokenizer=tokenizer)
    parts = template.parse(options["prompt"]) if options.get("prompt") else ["", "prompt", ""]
    plain = Prompts(model, parts, room, options.get("system"), options.get("chat", "auto"), cut)
    conversations = Exchanges(tokenizer, options)

    def of(prompt: Any) -> list[int]:
        found = plain([[prompt]])[0] if isinstance(prompt, str) else conversations.prompt_ids([prompt])[0]
        if isinstance(found, ValueError) or len(found) > room:
            tokens = found if isinstance(found, ValueError) else f"a conversation has {len(found)} tokens, not {room}"
            raise ModelError(
                f"{tokens}; lower options.max_new_tokens, leave the row out with data.train.where, or set "
                "options.long_text: truncate"
            )
        return found

    return lambda prompts: [of(prompt) for prompt in prompts]


def check(request: Request, table: pa.Table) -> None:
    """Refuse, before any weights load, prompts that do not fit and numbers that cannot be combined.

    Raises:
        ModelError: a prompt does not fit, or conversations have no chat template.
        SpecError: the numbers of answers and batches do not fit together.
    """
    from transformers import AutoConfig, AutoTokenizer

    sizes(request.objective, request.arguments, len(table), request.processes)
    tokenizer: Any = AutoTokenizer.from_pretrained(request.base)
    ids_of = encoder(request, tokenizer, AutoConfig.from_pretrained(request.base))
    for row, example in enumerate(examples(table)):
        try:
            ids_of([example["prompt"]])
        except ModelError as error:
            raise ModelError(f"training row {row}: {error}") from error


def answer_length(options: Mapping[str, Any], arguments: Mapping[str, Any]) -> int:
    """The most tokens of an answer: as many as the nightly task may write."""
    return int(arguments.get("max_completion_length") or options.get("max_new_tokens") or 256)


def generations(objective: str, arguments: Mapping[str, Any]) -> int:
    """Answers to one prompt: as the file says, else the largest number up to the usual one that divides the batch."""
    if "num_generations" in arguments:
        return int(arguments["num_generations"])
    batch = _generated(arguments)
    return next((n for n in range(min(GENERATIONS[objective], batch), 1, -1) if batch % n == 0), batch)


def sizes(objective: str, arguments: Mapping[str, Any], rows: int, processes: int = 1) -> dict[str, int]:
    """Fields of the arguments class by which every step has all answers to each of its prompts.

    Args:
        objective: rloo or grpo.
        arguments: what the training file sets.
        rows: prompts.
        processes: that train together.

    Raises:
        SpecError: the numbers that the file sets do not fit together; the message says what would.
    """
    answers = generations(objective, arguments)
    if answers < 2:
        raise SpecError(
            f"training.num_generations is {answers}, and {objective} compares the answers to one prompt; give 2 or "
            f"more, by default {GENERATIONS[objective]}"
            if "num_generations" in arguments
            else f"training.per_device_train_batch_size is {_generated(arguments)}, and {objective} compares the "
            "answers to one prompt; give 2 or more, or set training.num_generations too"
        )
    found = {"num_generations": answers}
    batch = _generated(arguments) * processes
    if batch % answers:
        given = [key for key in BATCHED if key in arguments]
        if "gradient_accumulation_steps" not in arguments and len(given) < 2 and given != ["generation_batch_size"]:
            steps = answers // math.gcd(batch, answers)
            found["gradient_accumulation_steps"] = steps
            batch *= steps
        else:
            raise SpecError(
                f"training: a step has {batch} answers ({' x '.join(given)}"
                f"{f' x {processes} processes' if processes > 1 else ''}), which is no multiple of num_generations "
                f"({answers}); set training.num_generations to a divisor of {batch}, such as "
                f"{_divisor(batch, answers)}, or another batch size"
            )
    if rows < (prompts := batch // answers):
        raise SpecError(
            f"there are {rows} training prompts, and one step needs {prompts} ({batch} answers, {answers} to each "
            "prompt); lower training.per_device_train_batch_size, or raise training.num_generations"
        )
    return found


BATCHED = (
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "steps_per_generation",
    "generation_batch_size",
)


def _generated(arguments: Mapping[str, Any]) -> int:
    """Answers that one process writes at a time."""
    if (whole := arguments.get("generation_batch_size")) is not None:
        return int(whole)
    size = int(arguments.get("per_device_train_batch_size", BATCH))
    steps = arguments.get("steps_per_generation") or arguments.get("gradient_accumulation_steps", 1)
    return size * int(steps)


def _divisor(batch: int, wanted: int) -> int:
    return next((n for n in range(min(wanted, batch), 1, -1) if batch % n == 0), batch)


def defaults(request: Request) -> dict[str, Any]:
    """Defaults of the arguments class."""
    found: dict[str, Any] = {
        "per_device_train_batch_size": BATCH,
        "max_completion_length": answer_length(request.options, request.arguments),
        "learning_rate": FULL_LEARNING_RATE if request.method == "full" else methods.LEARNING_RATES[request.method],
        "num_train_epochs": 1.0,
        # In rloo a whole answer's divergence in standard deviations of the reward; in grpo that of a token in the loss.
        "beta": {"rloo": 0.2, "grpo": 0.1}[request.objective],
        # Dropout would change the probabilities of an answer between writing and learning it.
        "disable_dropout": True,
        "gradient_checkpointing": False,
    }
    if request.objective == "rloo":
        # Then the learning rate does not depend on the unit of the rewards.
        found["normalize_advantages"] = True
    # The number of prompts has been checked.
    return found | sizes(request.objective, request.arguments, 10**9, request.processes)


def reward_functions(reward: Reward, arguments: Mapping[str, Any]) -> list[Callable[..., list[float]]]:
    """The rewards as TRL calls them: one function, whose value is the weighted sum of all."""
    cpu = arguments.get("use_cpu")
    scorer = Scorer(reward, "cpu" if cpu else "auto")
    trls = ("completion_ids", "prompt_ids", "trainer_state", "log_extra", "log_metric", "environments")

    def score(prompts: list[Any], completions: list[Any], **columns: Any) -> list[float]:
        answers = [each if isinstance(each, str) else each[-1]["content"] for each in completions]
        return scorer(prompts, answers, {name: values for name, values in columns.items() if name not in trls})

    return [score]


def count_positions(network: Any) -> None:
    """Make a network count the positions of a padded row from its first token.

    TRL pads prompts at their left and gives no positions when it computes probabilities, so that a network with learnt
    positions (GPT-2, OPT) would see the answers elsewhere than where it writes them.
    """
    import inspect

    if "position_ids" not in inspect.signature(network.forward).parameters:
        return

    def add(_: Any, args: Any, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        ids, mask = given.get("input_ids"), given.get("attention_mask")
        if given.get("position_ids") is None and ids is not None and mask is not None and mask.shape == ids.shape:
            given["position_ids"] = (mask.long().cumsum(-1) - 1).clamp(min=0)
        return args, given

    network.register_forward_pre_hook(add, with_kwargs=True)
