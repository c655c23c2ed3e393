"""TRL's policy trainers with a limit for the KL divergence from the policy that they start from.

A reward is a wish, not the whole of what an answer should be: a policy that is free to raise it ends at answers that
nobody wants, such as empty ones where short ones are rewarded (reward hacking; Gao et al. 2022, arXiv 2210.10760).
The penalty `beta` therefore grows while the divergence is above a limit, and shrinks to where it began below it: the
controller of Ziegler et al. 2019 (arXiv 1909.08593), one-sided. In RLOO the penalty is part of the reward, so `beta`
counts in standard deviations of the starting policy's rewards; in GRPO rewards are normalised already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

# How much the penalty may change from one batch of answers to the next.
FASTEST = {"up": 1.0, "down": -0.2}
MOST = 100.0


class Penalty(TrainerCallback, ExportableState):
    """The weight of the divergence; it is saved in checkpoints, so that a continued training has the same one.

    Args:
        limit: nats per token of the answers; None keeps the weight as it is.
        unit: standard deviation of the rewards of the first answers; None until they are written.
        factor: by how much the weight has grown.
    """

    def __init__(self, limit: float | None = None, unit: float | None = None, factor: float = 1.0):
        self.limit = limit
        self.unit = unit
        self.factor = factor

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"args": {"limit": self.limit, "unit": self.unit, "factor": self.factor}, "attributes": {}}

    def follow(self, divergence: float, share: float = 1.0) -> None:
        """Change the weight after a batch.

        Args:
            divergence: nats per token of its answers.
            share: of the answers of a step that the batch has.
        """
        if self.limit is None:
            return
        change = min(FASTEST["up"], max(FASTEST["down"], divergence / self.limit - 1.0))
        self.factor = min(MOST, max(1.0, self.factor * (1.0 + change) ** share))


def limited(kind: Any, ids_of: Callable[[Sequence[Any]], list[list[int]]], limit: float | None) -> Any:
    """TRL's trainer with the limit, for prompts with tokens of our own.

    Args:
        kind: RLOOTrainer or GRPOTrainer.
        ids_of: prompts -> their tokens.
        limit: nats per token; None for the trainer's own fixed penalty.
    """
    in_reward = "RLOO" in kind.__name__

    class Limited(kind):
        """The trainer whose penalty follows the divergence."""

        beta: float

        def __init__(self, *given: Any, **named: Any):
            super().__init__(*given, **named | {"callbacks": [*(named.get("callbacks") or []), Penalty(limit)]})
            self.first_beta = self.beta

        @property
        def penalty(self) -> Penalty:
            """The penalty, which is another object once a checkpoint was loaded."""
            found: Penalty = next(each for each in self.callback_handler.callbacks if isinstance(each, Penalty))
            return found

        def _tokenize_prompts(self, prompts: list[Any]) -> Any:
            return ids_of(prompts), None, {}

        def _calculate_rewards(self, *given: Any, **named: Any) -> Any:
            rewards = super()._calculate_rewards(*given, **named)
            if in_reward and self.penalty.unit is None:
                spread = float(rewards.sum(1).std())
                self.penalty.unit = spread if spread > 0 else None
            self._set_beta()
            return rewards

        def _generate_and_score_completions(self, inputs: Any) -> Any:
            self._set_beta()
            batch = super()._generate_and_score_completions(inputs)
            if in_reward and self.beta and (divergence := self._metrics["train"].get("kl")):
                self.penalty.follow(divergence[-1])
            return batch

        def _compute_loss(self, *given: Any, **named: Any) -> Any:
            loss = super()._compute_loss(*given, **named)
            if not in_reward and self.beta and (divergence := self._metrics["train"].get("kl")):
                self.penalty.follow(divergence[-1], 1.0 / self.current_gradient_accumulation_steps)
            return loss

        def _set_beta(self) -> None:
            self.beta = self.first_beta * self.penalty.factor * ((self.penalty.unit or 1.0) if in_reward else 1.0)

    Limited.__name__, Limited.__qualname__ = kind.__name__, kind.__qualname__
    return Limited
