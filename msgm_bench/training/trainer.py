"""The one loop that trains every method, with exact resume."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from msgm_bench.api import Batch, Method, Model, Split, Training
from msgm_bench.diffusion import derive_seed
from msgm_bench.errors import DivergenceError, PluginError, StorageError
from msgm_bench.training import checkpoint
from msgm_bench.training.feed import Feed
from msgm_bench.training.interrupt import deferred
from msgm_bench.training.runtime import Runtime

OnStep = Callable[[int, int, Mapping[str, float]], None]
LOGGED_ROWS = 200
CHECKPOINT_SECONDS = 20.0


@dataclass
class TrainLog:
    """What training left: one row of scalars every few steps."""

    rows: list[dict[str, float]] = field(default_factory=list)


class Trainer:
    """Owns optimiser, EMA, clipping, precision and budget; implements ``Session``.

    Args:
        model: The model to train, on the runtime's device.
        method: What an update is.
        feed: The batches.
        budget: Steps and optimiser.
        runtime: Device and precision.
        seed: Seed of this stage; dropout at step k draws from (seed, k).
        base: Frozen base model, where the method needs one.
    """

    def __init__(
        self,
        model: Model,
        method: Method,
        feed: Feed,
        budget: Training,
        runtime: Runtime,
        seed: int,
        base: Model | None = None,
    ) -> None:
        self.model, self.method, self.feed, self.budget = model, method, feed, budget
        self.runtime, self.seed, self.base = runtime, seed, base
        self.total_steps = budget.steps
        self.step = 0
        self.log = TrainLog()
        self.optimizer = torch.optim.Adam(
            model.parameters(),
            lr=budget.learning_rate,
            betas=(budget.beta1, budget.beta2),
            fused=True,
        )
        self.ema = AveragedModel(model.network, multi_avg_fn=self._average)
        self.gradient_norm = torch.zeros((), device=runtime.device)
        self._kept: dict[str, nn.Module | torch.optim.Optimizer] = {}

    # What a method sees ------------------------------------------------------------------

    def batch(self, split: Split, step: int, draw: int = 0) -> Batch:
        """A batch of a split that the method declares in ``needs``."""
        if split not in self.method.needs:
            declared = ", ".join(sorted(self.method.needs)) or "none"
            raise PluginError(
                f"method {self.method.name!r} reads the split {split!r}", f"it declares {declared}"
            )
        return self.feed.batch(split, step, draw)

    def keep(self, name: str, state: nn.Module | torch.optim.Optimizer) -> None:
        """Store ``state`` in every checkpoint."""
        self._kept[name] = state

    def minimise(self, loss: Tensor, transform: Callable[[nn.Module], None] | None = None) -> None:
        """Backward, transform, clip to ``budget.clip``, Adam, EMA."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if transform is not None:
            transform(self.model)
        self.gradient_norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.budget.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(self.step)
        self.optimizer.step()
        if self.budget.ema:
            self.ema.update_parameters(self.model.network)

    # The loop ----------------------------------------------------------------------------

    def run(self, folder: Path, on_step: OnStep) -> TrainLog:
        """Train to the end of the budget, going on from the folder's checkpoint.

        Leaves the averaged weights in ``model`` (the raw ones where ``ema`` is 0).

        Raises:
            DivergenceError: Loss or gradients are not finite, or the method's own check
                fails; the last sound checkpoint and the log stay.
            StorageError: A checkpoint cannot be written.
            KeyboardInterrupt: At a step's boundary, after a checkpoint.
        """
        self.method.setup(self)
        self._restore(folder)
        stored = time.monotonic()
        cuda = [self.runtime.device] if self.runtime.device.type == "cuda" else []
        with torch.random.fork_rng(cuda), self.runtime.active(), deferred() as interrupt:
            self.model.train()
            while self.step < self.total_steps:
                self._advance(on_step)
                if interrupt.asked or time.monotonic() - stored > CHECKPOINT_SECONDS:
                    self.store(folder)
                    stored = time.monotonic()
                if interrupt.asked:
                    raise KeyboardInterrupt
        if self.budget.ema:
            self.model.network.load_state_dict(self.ema.module.state_dict())
        self.model.eval()
        return self.log

    def _advance(self, on_step: OnStep) -> None:
        torch.manual_seed(derive_seed(self.seed, "dropout", self.step))
        loss = self.method.update(self, self.step)
        self.step += 1
        every = max(1, self.total_steps // LOGGED_ROWS)
        values: dict[str, float] = {}
        if self.step % every == 0 or self.step == self.total_steps:
            values = self._row(loss)
            self.log.rows.append({"step": self.step, **values})
            self._check(values)
        on_step(self.step, self.total_steps, values)

    def _row(self, loss: Tensor) -> dict[str, float]:
        """The scalars of this step; the only place where the loop waits for the device."""
        values = {"loss": loss, "gradient_norm": self.gradient_norm, **self.method.recorded}
        row = {name: float(value) for name, value in values.items()}
        return row | {"learning_rate": self.learning_rate(self.step - 1)}

    def _check(self, values: Mapping[str, float]) -> None:
        wrong = [name for name, value in values.items() if not math.isfinite(value)]
        if wrong:
            raise DivergenceError(
                f"training diverged at step {self.step}: {', '.join(wrong)} is not finite",
                hint="a smaller learning rate, a larger alpha or a stabiliser may help",
            )
        self.method.check(values)

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then constant or half a cosine down to 0."""
        budget = self.budget
        warm = min(1.0, (step + 1) / budget.warmup) if budget.warmup else 1.0
        if budget.decay == "cosine" and step >= budget.warmup:
            share = (step - budget.warmup) / max(1, budget.steps - budget.warmup)
            warm *= 0.5 * (1 + math.cos(math.pi * share))
        return budget.learning_rate * warm

    def _average(self, averaged: Any, current: Any, count: Tensor | int) -> None:
        """EMA whose decay grows as (1 + n) / (10 + n) to ``budget.ema``, in place."""
        n = float(count)
        decay = min(self.budget.ema, (1 + n) / (10 + n))
        torch._foreach_lerp_(averaged, current, 1 - decay)

    # Checkpoints -------------------------------------------------------------------------

    def store(self, folder: Path) -> None:
        """Write a checkpoint of everything that the next step depends on."""
        if not torch.isfinite(self.gradient_norm):
            return  # keep the last sound one; the next look at the log stops the run
        state = {
            "step": self.step,
            "log": self.log.rows,
            "network": self.model.network.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "recorded": dict(self.method.recorded),
            "kept": {name: kept.state_dict() for name, kept in self._kept.items()},
        }
        checkpoint.save(folder, state)

    def _restore(self, folder: Path) -> None:
        state = checkpoint.load(folder, self.runtime.device)
        if state is None:
            return
        if set(state["kept"]) != set(self._kept):
            raise StorageError(
                f"the checkpoint keeps {sorted(state['kept'])}, the method {sorted(self._kept)}",
                hint="setup must keep the same names every time",
            )
        self.step = state["step"]
        self.log.rows = state["log"]
        self.method.recorded = state["recorded"]
        self.model.network.load_state_dict(state["network"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name, kept in self._kept.items():
            kept.load_state_dict(state["kept"][name])
