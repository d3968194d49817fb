"""ESD: erases a class by the negative of classifier-free guidance."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from msgm_bench import Method, Model, Regime, Session, guided, hookimpl
from msgm_builtin.methods.esd_options import PRESETS, ESDOptions
from msgm_builtin.methods.esd_trajectory import trajectory_states
from msgm_builtin.methods.generated_data import GeneratedItems, uniform_choice


class ESD(Method[ESDOptions]):
    """ESD: erases a class by training its noise prediction towards negative guidance.

    L = E |eps_hat(x_t, t, c_f) - sg[eps*_null - eta (eps*_c - eps*_null)]|^2 / D

    with eps*_c and eps*_null the frozen base's predictions at x_t for c_f and for the null class,
    and x_t on the guided trajectory from noise to c_f of the model in training.
    Cost: one pass and two forward ones a step, and one forward pass for each of
    ``trajectory_steps`` (two where guided; items take half of them). The base model.
    Data-free. Variants and the released code: docs/methods/esd.md.
    """

    name = "esd"
    citation = "Gandikota et al. 2023, arXiv:2303.07345; code rohitgandikota/erasing 25613d2"
    regimes = ("finetune",)
    needs = frozenset({"base"})
    presets = PRESETS

    def skip(self, model: Model, regime: Regime) -> str | None:
        """Reason to skip a model without classes or without embeddings of them, or None."""
        model.process.grid(self.options.trajectory_steps)  # raises where it has fewer times
        if model.conditioning is None:
            return "ESD sets a class against the null class: only for models of --conditional"
        if self.options.trainable_weights == "class" and not embeddings(model):
            return "trainable_weights=class: the network has no embedding of classes (use all)"
        return None

    def setup(self, session: Session) -> None:
        """Mask of the trainable weights; register the items to be noised."""
        c = self.options
        self.mask = embedding_mask(session.model) if c.trainable_weights == "class" else None
        if c.state_source == "noised":
            self.items = GeneratedItems(
                session, session.forget_labels, c.samples_per_class, c.nfe, c.guidance
            )
            session.register_state("drawn", self.items)

    def num_preparation_steps(self, session: Session) -> int:
        """Batches of items to be noised."""
        return self.items.num_batches(session) if self.options.state_source == "noised" else 0

    def preparation_step(self, session: Session, i: int) -> None:
        """Draw a batch of items from the base."""
        self.items.draw(session, i)

    def update(self, session: Session, step: int) -> Tensor:
        """Descend L."""
        x_t, t, c_f = self.sample_states(session, step)
        target = self.target(session, x_t, t, c_f)
        loss = (session.model.eps(x_t, t, c_f) - target).square().mean()
        session.minimise(loss, mask=self.mask)
        return loss.detach()

    @torch.no_grad()
    def target(self, session: Session, x_t: Tensor, t: Tensor, c_f: Tensor) -> Tensor:
        """eps*_null - eta (eps*_c - eps*_null), or the same from eps*_c, ``[N, *shape]``."""
        base, eta = session.base, self.options.eta
        eps_c, eps_null = base.eps(x_t, t, c_f), base.eps(x_t, t)
        return guided(eps_c, eps_null, -eta - (self.options.erase_from == "null"))

    def sample_states(self, session: Session, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """States x_t ``[N, *shape]``, their times ``[N]`` and classes c_f ``[N]``."""
        c = self.options
        noise = session.noise("class", step, count=session.batch_size)
        if c.state_source == "noised":
            positions = torch.arange(len(self.items), device=noise.device)
            items = self.items[uniform_choice(positions, noise)]
            batch = session.noised(items, step, "states", encoded=True)
            return batch.x_t, batch.t, batch.y
        c_f = uniform_choice(torch.tensor(session.forget_labels, device=noise.device), noise)
        x_t, t = trajectory_states(session, step, c_f, c.trajectory_steps, c.guidance)
        return x_t, t, c_f


def embeddings(model: Model) -> list[nn.Embedding]:
    """The embeddings in the network."""
    return [module for module in model.modules() if isinstance(module, nn.Embedding)]


def embedding_mask(model: Model) -> Tensor:
    """Mask ``bool [P]`` of the weights of the embeddings."""
    inside = {id(embedding.weight) for embedding in embeddings(model)}
    parts = [torch.full_like(p, id(p) in inside, dtype=torch.bool) for p in model.parameters()]
    return torch.cat([part.reshape(-1) for part in parts])


@hookimpl
def register_methods() -> Sequence[type[Method]]:
    """ESD."""
    return [ESD]
