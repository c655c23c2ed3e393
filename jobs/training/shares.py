"""What each process takes of the rows of a step, and with which weight, so that the loss is that of one process.

The library gives whole batches to the processes in turn, fills the last ones up with rows from the beginning, and takes
the mean of the means of batches. So the loss would depend on the number of processes, on the accumulation and on rows
that are counted twice. Here each step has the same rows for any number of processes and of accumulated batches, and its
loss is the mean over its items: tokens where a row has several labels, otherwise rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sized
from typing import Any, Protocol, cast

import torch
from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader, Sampler, SequentialSampler
from transformers import Trainer


class Order(Sized, Protocol):
    """Numbers of rows in the order of an epoch."""

    def __iter__(self) -> Iterator[int]: ...


class Shares(Sampler[list[int]]):
    """The batches of one process; every process has as many.

    A process without a row in the last step of an epoch repeats one, which `real` counts as none.

    Args:
        order: the rows; the same in all processes.
        batch_size: rows of one process at once.
        accumulated: batches of one process in a step.
        processes: number of processes.
        rank: which of them this is.
        drop_last: leave out a last step with fewer rows, if there are others.
    """

    def __init__(
        self, order: Order, batch_size: int, accumulated: int, processes: int, rank: int, drop_last: bool = False
    ):
        self.order, self.batch_size, self.accumulated = order, batch_size, accumulated
        self.processes, self.rank = processes, rank
        self.step_rows = batch_size * accumulated * processes
        whole, rest = divmod(len(order), self.step_rows)
        self.steps = [self.step_rows] * whole + [rest] * (rest > 0 and not (drop_last and whole))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches are given next."""
        if hasattr(self.order, "set_epoch"):
            self.order.set_epoch(epoch)

    def __len__(self) -> int:
        return sum(len(self._places(rows)) for rows in self.steps)

    def __iter__(self) -> Iterator[list[int]]:
        order, start = list(self.order), 0
        for rows in self.steps:
            for place in self._places(rows):
                yield order[start : start + rows][place] or order[start : start + 1]
            start += rows

    def real(self, step: int) -> list[int]:
        """Rows that count in each batch of this process in a step of an epoch."""
        return [place.stop - place.start for place in self._places(self.steps[step])]

    def _places(self, rows: int) -> list[slice]:
        """Where in a step of `rows` rows the batches of this process lie; their sizes differ by one at most."""
        batches = math.ceil(rows / (self.batch_size * self.processes))
        slots = batches * self.processes
        mine = range(self.rank, slots, self.processes)
        return [slice(rows * slot // slots, rows * (slot + 1) // slots) for slot in mine]


def items(batch: Any, shifted: bool) -> torch.Tensor:
    """How many losses the mean of a batch is taken of: labels that count, or rows without labels.

    Args:
        batch: what the network gets.
        shifted: whether the loss leaves out the first label of each row, as that of a causal model.
    """
    labels = batch.get("labels")
    if isinstance(labels, torch.Tensor):
        return (labels[..., 1:] if shifted and "shift_labels" not in batch else labels).ne(-100).sum()
    tensor = next(value for value in batch.values() if isinstance(value, torch.Tensor) and value.ndim)
    return torch.tensor(len(tensor), device=tensor.device)


def shared(kind: type[Trainer], order: Any) -> type[Trainer]:
    """The trainer `kind` whose steps have the same rows and the same loss for any number of processes.

    Args:
        kind: a trainer; one that draws its rows itself, as those of policies do, is returned as it is.
        order: trainer -> the order of the training rows, or None for that of the library.
    """
    above = kind.__mro__[: kind.__mro__.index(Trainer)]
    if kind.loss_is_scaled_for_ga or any("get_train_dataloader" in vars(each) for each in above):
        return kind

    # Its base is one of several classes, which mypy cannot follow.
    class Shared(kind):  # type: ignore[valid-type, misc]
        """A trainer with equal shares and weighted means."""

        # compute_loss returns the mean of a batch, which is weighted here.
        loss_is_scaled_for_ga = False

        def __init__(self, *args: Any, **more: Any):
            super().__init__(*args, **more)
            # Otherwise some networks divide by the items of the step, and others ignore that they should.
            self.model_accepts_loss_kwargs = False
            self.shares: Shares | None = None
            self.weights: Iterator[torch.Tensor] = iter(())
            self.evaluated: Iterator[int] = iter(())
            self.sums = torch.zeros(2, dtype=torch.float64)

        def _get_dataloader(self, dataset: Any, description: str, batch_size: int, *args: Any, **more: Any) -> Any:
            own = order(self) if more.get("is_training") else self._validation_order(dataset, description)
            plain = super()._get_dataloader(dataset, description, batch_size, *args, **more) if own is None else None
            if plain is not None:
                return plain
            arguments, world = self.args, (self.accelerator.num_processes, self.accelerator.process_index)
            training = bool(more.get("is_training"))
            accumulated = arguments.gradient_accumulation_steps if training else 1
            found = Shares(own, batch_size, accumulated, *world, arguments.dataloader_drop_last and training)
            if training:
                self.shares = found
            loader: Any = DataLoader(
                self._remove_unused_columns(dataset, description=description),
                batch_sampler=found,
                collate_fn=self.data_collator,
                num_workers=arguments.dataloader_num_workers,
                pin_memory=arguments.dataloader_pin_memory,
                persistent_workers=arguments.dataloader_persistent_workers,
                prefetch_factor=arguments.dataloader_prefetch_factor,
            )
            # One process, for the library: the rows are shared out already.
            return prepare_data_loader(
                loader, self.accelerator.device, num_processes=1, process_index=0, put_on_device=True
            )

        def _validation_order(self, dataset: Any, description: str) -> Any:
            """The rows one after another, without repeated ones at the end; None where predictions are gathered."""
            alone = self.accelerator.num_processes == 1
            return None if alone or description == "test" or self.compute_metrics else SequentialSampler(dataset)

        def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
            """The batches of a step; the weight of each is its share of the items of all processes."""
            batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
            real = [1] * len(batches)
            if self.shares is not None:
                real = self.shares.real(self.state.global_step % len(self.shares.steps))
            # The count of a batch is kept, for its mean is over them; that of a repeated row is nothing.
            counted = [items(batch, self._loss_shifts_labels) for batch in batches]
            counts = [count * (rows > 0) for count, rows in zip(counted, real, strict=True)]
            if counts:
                total = self.accelerator.reduce(torch.stack(counts).sum().to(device), "sum").clamp(min=1)
                # The library divides by the number of batches, and the processes by their number.
                factor = len(batches) * self.accelerator.num_processes
                self.weights = iter([count.to(device) * factor / total for count in counts])
            return batches, None

        def _get_num_items_in_batch(self, batch_samples: Any, device: Any) -> None:
            """None: the loss of a batch is the mean over its own items."""

        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **more: Any) -> Any:
            """The loss of a batch; in training, with its weight in the step."""
            found = super().compute_loss(model, inputs, return_outputs=return_outputs, **more)
            if not self.model.training or (weight := next(self.weights, None)) is None:
                return found
            loss, *rest = found if return_outputs else (found,)
            # The mean over no items is not a number, and neither is zero times it.
            loss = torch.where(weight > 0, loss * weight, torch.zeros_like(loss))
            return (loss, *rest) if return_outputs else loss

        def prediction_step(self, model: Any, inputs: Any, *args: Any, **more: Any) -> Any:
            """The loss of a batch of the evaluation, summed up for the mean over all items."""
            count = items(inputs, self._loss_shifts_labels) * (next(self.evaluated, 1) > 0)
            loss, *rest = super().prediction_step(model, inputs, *args, **more)
            if loss is not None and count:
                self.sums = self.sums + torch.stack([loss.detach().double() * count, count.double()])
            return (loss, *rest)

        def evaluation_loop(self, dataloader: Any, *args: Any, **more: Any) -> Any:
            """The evaluation; its loss is the mean over all items."""
            shares = getattr(dataloader, "batch_sampler", None)
            steps = range(len(shares.steps)) if isinstance(shares, Shares) else ()
            self.evaluated = iter([rows for step in steps for rows in cast(Shares, shares).real(step)])
            self.sums = torch.zeros(2, dtype=torch.float64, device=self.args.device)
            output = super().evaluation_loop(dataloader, *args, **more)
            total, count = self.accelerator.reduce(self.sums, "sum").tolist()
            key = f"{more.get('metric_key_prefix', 'eval')}_loss"
            if key in (output.metrics or {}) and count:
                output.metrics[key] = total / count
            return output

    return Shared
