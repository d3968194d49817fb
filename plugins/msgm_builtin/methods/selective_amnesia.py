"""Selective Amnesia: forgets a class as continual learning retains one, with generated data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from msgm_bench import Batch, Examples, Method, Model, Prompts, Regime, Session, hookimpl
from msgm_builtin.methods.fisher import Fisher, squared_norm
from msgm_builtin.methods.generated_data import GeneratedItems, uniform_choice
from msgm_builtin.methods.gradients import flatten, matching_parameters, trained_parameters
from msgm_builtin.methods.labels import label_tensor
from msgm_builtin.methods.selective_amnesia_options import (
    PRESETS,
    SEARCH_SPACE,
    SelectiveAmnesiaOptions,
)


class SelectiveAmnesia(Method[SelectiveAmnesiaOptions]):
    """Selective Amnesia: D_f's classes become uniform noise, held by elastic weights to the base.

    L = E_{x ~ U} |eps_hat(x_t, t, c_f) - eps|^2
        + gamma E_{x, c ~ base} |eps_hat(x_t, t, c) - eps|^2
        + lambda sum_i F_i (theta_i - theta*_i)^2,

    with x and c of D_g's classes drawn by the base theta*, its Fisher diagonal F, and squared norms
    summed over D.
    Cost: two passes a step; before them K ``samples_per_class`` items of ``nfe`` evaluations each,
    and as many gradients over ``fisher_timesteps`` (K = 1 for an unconditional model).
    Data-free. The Fisher diagonal, units and the released code: docs/methods/selective_amnesia.md.
    """

    name = "selective_amnesia"
    citation = (
        "Heng and Soh 2023, arXiv:2305.10120; code clear-nus/selective-amnesia b736571, ddpm/"
    )
    regimes = ("finetune",)
    needs = frozenset({"base"})
    presets = PRESETS
    search_space = SEARCH_SPACE

    def skip(self, model: Model, regime: Regime) -> str | None:
        """Reason to skip a model of prompts, or None.

        Raises:
            OptionError: Ancestral sampling has more steps than the process.
        """
        if isinstance(model.conditioning, Prompts):
            return "selective_amnesia replays each class: nobody has stated which prompts it takes"
        if self.options.sampler == "ancestral":
            model.process.grid(self.options.nfe)
        return None

    def setup(self, session: Session) -> None:
        """Register theta*, the generated items and F."""
        c, conditioning = self.options, session.model.conditioning
        self.anchor = flatten(matching_parameters(session.base, session.model))
        classes = None if conditioning is None else range(conditioning.count)
        count = c.samples_per_class * (1 if classes is None else len(classes))
        self.memory = GeneratedItems(session, classes, count, c.nfe, c.guidance, c.sampler)
        self.fisher = Fisher(len(self.anchor), c.fisher_timesteps).to(self.anchor.device)
        self.replayed = torch.arange(count, device=self.anchor.device)
        if classes is not None:
            y = self.memory.y
            is_retain = torch.isin(y, label_tensor(session.retain_labels, y.device))
            self.replayed = self.replayed[is_retain]
        session.register_state("memory", self.memory)
        session.register_state("fisher", self.fisher)

    def num_preparation_steps(self, session: Session) -> int:
        """Batches of items to draw, then the items of F."""
        return self.memory.num_batches(session) + len(self.memory)

    def preparation_step(self, session: Session, i: int) -> None:
        """Draw a batch of items, or, after the last, add one item to F."""
        item = i - self.memory.num_batches(session)
        if item < 0:
            self.memory.draw(session, i)
        else:
            self.fisher.add_item(session, self.memory, item)

    def update(self, session: Session, step: int) -> Tensor:
        """Descend L."""
        c = self.options
        L_f = squared_norm(session, self.surrogate_batch(session, step))
        L_r = squared_norm(session, self.replay_batch(session, step))
        shift = flatten(trained_parameters(session.model)) - self.anchor
        distance = (self.fisher.diagonal * shift.square()).sum()
        loss = L_f + c.gamma * L_r + c.ewc_weight * distance
        session.minimise(loss)
        self.record(loss_forget=L_f, loss_retain=L_r, distance=distance)
        return loss.detach()

    def surrogate_batch(self, session: Session, step: int) -> Batch:
        """Uniform noise in the range of the data, under the classes c_f."""
        model, count = session.model, session.batch_size
        noise = session.noise("surrogate", step, count=count)
        low, high = model.codec.bounds or (self.memory.x.min(), self.memory.x.max())
        x, y = low + (high - low) * noise.uniform(model.shape), self.memory.y[:1].expand(count)
        if model.conditioning is not None:
            y = uniform_choice(label_tensor(session.forget_labels, y.device), noise)
        batch = session.noised(Examples(x, y), step, "surrogate", encoded=True)
        return batch if model.conditioning is None else replace(batch, condition=y)

    def replay_batch(self, session: Session, step: int) -> Batch:
        """Generated items of D_g's classes; of an unconditional model, all."""
        noise = session.noise("replay", step, count=session.batch_size)
        items = self.memory[uniform_choice(self.replayed, noise)]
        batch = session.noised(items, step, "replay", encoded=True)
        keep_labels = session.model.conditioning is not None and not self.options.label_dropout
        return replace(batch, condition=batch.y) if keep_labels else batch


@hookimpl
def register_methods() -> Sequence[type[Method]]:
    """Selective Amnesia."""
    return [SelectiveAmnesia]
