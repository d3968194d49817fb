"""The training loop of every method, with exact resume."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from msgm_bench.api import Method, Model, PromptBook, Training
from msgm_bench.api.progress import ProgressCallback
from msgm_bench.diffusion import derive_seed
from msgm_bench.errors import DivergenceError, OptionError, PluginError, StorageError
from msgm_bench.ranks import current as current_ranks
from msgm_bench.training import checkpoint
from msgm_bench.training.batch_shares import BatchShares
from msgm_bench.training.batches import NoisedBatches
from msgm_bench.training.captured_step import captured_steps
from msgm_bench.training.generators import seed_device
from msgm_bench.training.interrupt import deferred
from msgm_bench.training.method_state import load_stored_state, stored_state
from msgm_bench.training.runtime import Runtime
from msgm_bench.training.session import TrainingSession
from msgm_bench.training.weight_guard import WeightGuard

LOGGED_ROWS = 200
CHECKPOINT_SECONDS = 20.0


@dataclass
class TrainLog:
    """The log of a training: one row of scalars every few steps."""

    rows: list[dict[str, float]] = field(default_factory=list)


class Trainer(TrainingSession):
    """The loop: owns budget, precision, log and checkpoints.

    Args:
        model: The model to train, on the runtime's device.
        method: The method, whose ``update`` is one step.
        noised_batches: Batches of each split.
        budget: Steps and optimiser.
        runtime: Device and precision.
        seed: Seed of this stage; dropout at step k draws from (seed, k).
        base: Frozen base model, if the method needs one.
        labels: Labels of the classes of the splits ``retain`` and ``forget``; empty if items
            have attributes.
        pass_items: Items of a pass; by default a batch.
        concepts: Indices of the classes or attributes to be forgotten.
        prompts: The prompts of the data, if there are any.
    """

    def __init__(
        self,
        model: Model,
        method: Method,
        noised_batches: NoisedBatches,
        budget: Training,
        runtime: Runtime,
        seed: int,
        base: Model | None = None,
        labels: Mapping[str, tuple[int, ...]] | None = None,
        pass_items: int | None = None,
        concepts: tuple[int, ...] = (),
        prompts: PromptBook | None = None,
    ) -> None:
        place = runtime.device
        super().__init__(
            model,
            method,
            noised_batches,
            budget,
            place,
            seed,
            base,
            labels,
            pass_items,
            concepts,
            prompts,
        )
        self.runtime = runtime
        self.preparation_steps, self.preparation_passes = 0, 0.0
        self.log, self.ranks = TrainLog(), current_ranks()
        self.captured_steps = captured_steps(method, model, runtime)
        self._modules: list[torch.nn.Module] = []

    def run(
        self, folder: Path, on_step: ProgressCallback, on_end: Callable[[], None] | None = None
    ) -> TrainLog:
        """Train to the end of the budget, from the folder's checkpoint if there is one.

        ``model`` ends with the averaged weights (the raw ones if ``ema_decay`` is 0); ``on_end``
        is called before, with the raw weights.

        Raises:
            DivergenceError: Loss or gradients are not finite, or the method's ``check`` fails;
                the last finite checkpoint and the log stay.
            StorageError: A checkpoint cannot be written.
            KeyboardInterrupt: Ctrl-C or SIGTERM; between two steps, after a checkpoint.
            PluginError: The method changes weights outside ``Session.edit``.
        """
        with self._in_session():
            self._start(folder)
            self._loop(folder, on_step)
        if on_end is not None:
            on_end()
        self.use_average()
        self.model.eval()
        return self.log

    @contextlib.contextmanager
    def _in_session(self) -> Iterator[None]:
        """Precision, shares, counted passes, guarded weights; the process is left as it was."""
        base = None if self._base is None else self._base.network
        guard = WeightGuard(self.method.name, self.model.network, base)
        cuda = [self.device] if self.device.type == "cuda" else []
        with (
            torch.random.fork_rng(cuda),
            self.runtime.active(),
            BatchShares(self.ranks, self._networks).sharing(),
            self.passes.counting(),
            guard.watching(),
        ):
            self.guard = guard
            try:
                yield
            finally:
                self.guard = None

    def _start(self, folder: Path) -> None:
        """Call ``setup`` and restore the folder's checkpoint."""
        assert self.guard is not None
        torch.manual_seed(derive_seed(self.seed, "setup"))
        self.method.setup(self)
        self._modules = list(self.model.modules())
        self.guard.check()
        self.preparation_passes = self.passes.count
        self._restore(folder)
        self.guard.record()

    def _loop(self, folder: Path, on_step: ProgressCallback) -> None:
        units, stored = self.method.num_preparation_steps(self), time.monotonic()
        with deferred() as interrupt:
            while self._has_more(units):
                if self.preparation_steps < units:
                    self._run_preparation_step(units, on_step)
                else:
                    self._advance(on_step)
                stops = self.ranks.any(interrupt.is_requested)
                if stops or time.monotonic() - stored > CHECKPOINT_SECONDS:
                    self.store(folder)
                    stored = time.monotonic()
                if stops:
                    raise KeyboardInterrupt
        self._check_end(units)

    def _has_more(self, units: int) -> bool:
        """Whether there is work left: of a closed form the preparation, else the budget."""
        if self.method.closed_form:
            return self.preparation_steps < units
        return self.spent < 1

    @property
    def spent(self) -> float:
        """Used share of the budget; above 1 if the last step exceeds a budget of passes."""
        if self.budget.passes is None:
            return self.step / self.budget.steps
        return self.passes.count / self.budget.passes

    @property
    def total_steps(self) -> int:
        """The budget in outer steps; extrapolated from a budget of passes."""
        return round(self.horizon)

    def _check_end(self, units: int) -> None:
        if not self._finite():
            raise DivergenceError("training diverged: weights are not finite after the last step")
        if not self.step and not self.method.closed_form:
            needed = self.preparation_passes * max(1, units) / max(1, self.preparation_steps)
            raise OptionError(
                f"the preparation of {self.method.name} takes all {self.budget.passes} passes",
                f"more than {math.ceil(needed)} passes",
            )

    def _expected_steps(self) -> float:
        """Total number of steps, if further steps take as many passes as those so far."""
        if self.budget.passes is None or not self.step:
            return self.horizon
        done = self.passes.count - self.preparation_passes
        if not done:
            raise PluginError(
                f"a step of {self.method.name} makes no pass through a network that is counted",
                "the session's model and base, and networks of session.adam",
                "give it --steps in the place of --passes",
            )
        return self.step * (self.budget.passes - self.preparation_passes) / done

    def _run_preparation_step(self, units: int, on_step: ProgressCallback) -> None:
        torch.manual_seed(derive_seed(self.seed, "preparation", self.preparation_steps))
        self.model.eval()
        self.method.preparation_step(self, self.preparation_steps)
        self._check_moves()
        self.preparation_steps += 1
        self.preparation_passes = self.passes.count
        if self.method.closed_form:  # there are no other rows
            row = {"step": float(self.preparation_steps), "passes": self.passes.count}
            self.log.rows.append(row)
        on_step(self.preparation_steps, units, {}, "prepare")

    def _advance(self, on_step: ProgressCallback) -> None:
        self.horizon = self._expected_steps()
        seed_device(derive_seed(self.seed, "dropout", self.step), self.runtime.device)
        self._enter_training()
        captured = self.captured_steps
        loss = (captured or self.method).update(self, self.step)
        self._check_moves()
        self.step += 1
        every = max(1, self.total_steps // LOGGED_ROWS)
        values: dict[str, float] = {}
        if self.step % every == 0 or self.spent >= 1:
            values = self._row(loss)
            self.log.rows.append({"step": self.step, **values})
            self._check(values)
        on_step(self.step, self.total_steps, values)

    def _enter_training(self) -> None:
        """``model.train()`` where a module evaluates: the call is a hundredth of a small step."""
        if not all(module.training for module in self._modules):
            self.model.train()

    def _check_moves(self) -> None:
        if self.guard is not None:
            self.guard.check()

    def _finite(self) -> bool:
        return bool(torch.stack([torch.isfinite(p).all() for p in self.parameters]).all())

    def _row(self, loss: Tensor) -> dict[str, float]:
        """The scalars of this step; the only synchronisation of the loop with the device."""
        values = {"loss": loss, "gradient_norm": self.gradient_norm, **self.method.recorded}
        row = {name: float(value) for name, value in values.items()}
        rate = self.learning_rate(self.step - 1)
        return row | {"learning_rate": rate, "passes": self.passes.count}

    def _check(self, values: Mapping[str, float]) -> None:
        wrong = [name for name, value in values.items() if not math.isfinite(value)]
        if wrong:
            raise DivergenceError(
                f"training diverged at step {self.step}: {', '.join(wrong)} is not finite",
                hint="a smaller learning rate, a larger alpha or a stabiliser may help",
            )
        self.method.check(values)

    # Checkpoints -------------------------------------------------------------------------

    def store(self, folder: Path) -> None:
        """Write a checkpoint of everything that the next step depends on, in one process."""
        if self.ranks.rank or not (torch.isfinite(self.gradient_norm) and self._finite()):
            return  # the last finite checkpoint stays; the next logged step stops the run
        state = self.state_dict() | {
            "step": self.step,
            "preparation_steps": self.preparation_steps,
            "preparation_passes": self.preparation_passes,
            "passes": self.passes.thirds,
            "log": self.log.rows,
            "recorded": dict(self.method.recorded),
            "states": {
                name: stored_state(part, self._networks) for name, part in self._states.items()
            },
        }
        checkpoint.save(folder, state)

    def _restore(self, folder: Path) -> None:
        state = checkpoint.load(folder, self.runtime.device)
        if state is None:
            return
        if set(state["states"]) != set(self._states):
            raise StorageError(
                f"the checkpoint has the states {sorted(state['states'])}, "
                f"the method {sorted(self._states)}",
                hint="setup must register the same states every time",
            )
        self.load_state_dict(state)
        self.step, self.preparation_steps = state["step"], state["preparation_steps"]
        self.preparation_passes = state["preparation_passes"]
        self.passes.thirds = state["passes"]
        self.log.rows = state["log"]
        self.method.recorded = state["recorded"]
        for name, part in self._states.items():
            load_stored_state(part, state["states"][name], self._networks)
