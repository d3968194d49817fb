"""Graphs that record a function and run it again: a replay is a rerun on the same memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from msgm_bench.training import Trainer
from msgm_bench.training.captured_step import Outcome


class FakeGraphs:
    """Runs a capture and undoes it, since a real one leaves all memory as it is.

    Args:
        trainer: The training whose memory that is.
        refuses: Whether a rehearsal finds that the host waits for the device.

    Attributes:
        calls: What was asked for, in order.
    """

    def __init__(self, trainer: Trainer, refuses: str = "") -> None:
        self.trainer, self.refuses = trainer, refuses
        self.calls: list[str] = []

    def warm_up(self, function: Callable[[], Any]) -> Any:
        """Run it."""
        self.calls.append("warm up")
        return function()

    def rehearse(self, function: Callable[[], Any]) -> Any:
        """Run it, or half of it: a step that waits has used the generator before it fails."""
        self.calls.append("rehearse")
        if self.refuses == "rehearse":
            self.trainer.passes.thirds += 1
            torch.rand(3)
            raise RuntimeError("called a synchronizing CUDA operation\nin line 3")
        return function()

    def capture(self, function: Callable[[], Outcome]) -> tuple[Outcome, Callable[[], None]]:
        """Run it and undo it; the replay runs it again, into the first one's outcome."""
        self.calls.append("capture")
        before = [tensor.clone() for tensor in self.memory()]
        static = function()
        with self.trainer.known_move():
            for tensor, value in zip(self.memory(), before, strict=True):
                tensor.copy_(value)
        if self.refuses == "capture":
            raise RuntimeError("operation not permitted when stream is capturing")

        def replay() -> None:
            self.calls.append("replay")
            outcome = function()
            for tensor, value in zip(leaves(static), leaves(outcome), strict=True):
                tensor.copy_(value)

        return static, replay

    def memory(self) -> Iterator[Tensor]:
        """All tensors that a step changes in place."""
        trainer = self.trainer
        yield from (tensor.detach() for tensor in trainer._moving().values())
        yield from trainer.ema.tensors.values()
        for state in trainer.optimizer.state.values():
            yield from state.values()


def leaves(outcome: Outcome) -> list[Tensor]:
    """The tensors of an outcome, in one order."""
    return [outcome.loss, outcome.gradient_norm, *outcome.recorded.values()]
