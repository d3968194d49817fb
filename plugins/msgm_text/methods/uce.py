"""UCE: cross-attention reads another concept in the place of a forgotten one, in closed form."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from msgm_bench import (
    Data,
    Method,
    Model,
    PluginError,
    Prompt,
    PromptBook,
    Prompts,
    Regime,
    Session,
    hookimpl,
)
from msgm_builtin.methods.anchors import anchored_text, check_anchors
from msgm_text.methods.subject_tokens import (
    concept_prompts,
    erased_tokens,
    preserved_tokens,
)
from msgm_text.methods.uce_options import PRESETS, SEARCH_SPACE, UCEOptions


class UCE(Method[UCEOptions]):
    """UCE: each key and value of cross-attention reads an anchor where a forgotten concept stands.

    min sum_e |W' c - W c*|^2 + sum_p |W' c - W c|^2 + lambda |W' - W|^2

    over the tokens c of erased concepts with those c* of their anchors, and of preserved concepts.
    With scales s_e and s_p of both sums

        W' = W (lambda I + s_e sum_e c* c^T + s_p sum_p c c^T)
               (lambda I + s_e sum_e c c^T + s_p sum_p c c^T)^-1.

    Cost: no pass; a layer a preparation step. No data.
    Tokens, anchors and both releases of the code: docs/methods/uce.md.
    """

    name = "uce"
    citation = (
        "Gandikota et al. 2024, arXiv:2308.14761, equation 7; code "
        "rohitgandikota/unified-concept-editing ea9644f"
    )
    regimes = ("finetune",)
    needs = frozenset()
    closed_form = True
    presets = PRESETS
    search_space = SEARCH_SPACE

    def part(self, model: Model, regime: Regime) -> str:
        """Keys and values of cross-attention."""
        return "cross_kv"

    def trains(self, model: Model, regime: Regime) -> frozenset[str]:
        """Names of their matrices."""
        return frozenset(name for name in super().trains(model, regime) if name.endswith("weight"))

    def skip(self, model: Model, regime: Regime) -> str | None:
        """Reason to skip a model without prompts or without cross-attention, or None."""
        if not isinstance(model.conditioning, Prompts):
            return "uce edits what cross-attention reads of a prompt: it needs --text"
        if "cross_kv" not in model.parts:
            return "uce edits keys and values of cross-attention, which this backbone does not name"
        return None

    def check_data(self, data: Data, targets: Sequence[int]) -> None:
        """Refuse concepts without an anchor.

        Raises:
            OptionError: The prompts name none, and neither does ``anchor``.
        """
        check_anchors(data, targets, self.options.anchor)

    def texts(self, model: Model, data: Data, targets: Sequence[int]) -> Sequence[str]:
        """Names of concepts, or captions, and the same with anchors."""
        book = data.prompts
        if book is None:
            return ()
        rows = self.rows(book)
        anchored = [anchored_text(book, row, targets, self.options.anchor) for row in rows]
        return [*(row.text for row in rows), *anchored]

    def rows(self, book: PromptBook) -> list[Prompt]:
        """Prompts whose tokens are erased or preserved."""
        if self.options.prompts == "concepts":
            return concept_prompts(book)
        return [prompt for prompt in book if prompt.group == "train"]

    def setup(self, session: Session) -> None:
        """The layers, and M of W' = W M."""
        self.layers = sorted(self.trains(session.model, "finetune"))
        c, prompts, book = self.options, session.model.prompts, session.prompt_book
        targets = session.forget_concepts
        rows = self.rows(book)
        erased = [row for row in rows if set(row.concepts) & set(targets)]
        preserved = [row for row in rows if not set(row.concepts) & set(targets)]
        pairs = erased_tokens(prompts, book, erased, targets, c.anchor, c.tokens)
        others = preserved_tokens(prompts, book, preserved, c.tokens)
        self.M = editing_matrix(*pairs, others, c)

    def num_preparation_steps(self, session: Session) -> int:
        """Layers."""
        return len(self.layers)

    def preparation_step(self, session: Session, i: int) -> None:
        """W <- W M in layer i."""
        W = session.model.network.get_parameter(self.layers[i])
        with session.edit():
            W.copy_(W.double() @ self.M)

    def update(self, session: Session, step: int) -> Tensor:
        """Never called: a closed form has no training step."""
        raise PluginError("uce has no training step")


def editing_matrix(c: Tensor, c_star: Tensor, others: Tensor, options: UCEOptions) -> Tensor:
    """M ``[d, d]`` of W' = W M; tokens are rows ``[M, d]``."""
    s_e, s_p = options.erase_scale, options.preserve_scale
    eye = torch.eye(c.shape[1], dtype=c.dtype, device=c.device)
    common = options.lamb * eye + s_p * others.T @ others
    A, B = common + s_e * c.T @ c, common + s_e * c_star.T @ c
    M: Tensor = torch.linalg.solve(A, B, left=False)
    return M


@hookimpl
def register_methods() -> Sequence[type[Method]]:
    """UCE."""
    return [UCE]
