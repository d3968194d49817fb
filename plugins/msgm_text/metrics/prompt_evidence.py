"""Names, groups and checks of the evidence of text metrics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from msgm_bench import Artifact, Evidence, ModelContext, MsgmBenchError
from msgm_text.tasks.prompt_sets import book_of

GROUPS = "groups"
"""Names of the groups of prompts, in the order of the indices ``group``."""


def name_tensor(names: Sequence[str]) -> Tensor:
    """Names in UTF-8, filled up with zeros, ``uint8 [K, L]``."""
    rows = [torch.tensor([*name.encode(), 0], dtype=torch.uint8) for name in names]
    return pad_sequence(rows, batch_first=True) if rows else torch.zeros(0, 1, dtype=torch.uint8)


def names_of(evidence: Evidence, name: str) -> list[str]:
    """Names, as ``name_tensor`` wrote them; a byte that is none of UTF-8 is replaced.

    Raises:
        MsgmBenchError: They are missing, or no bytes.
    """
    rows = evidence.integers(name, 2)
    if rows.numel() and not 0 <= int(rows.min()) <= int(rows.max()) < 256:
        raise MsgmBenchError(f"the evidence {name!r} of {evidence.protocol} holds no bytes")
    return [bytes(row).rstrip(b"\0").decode("utf-8", "replace") for row in rows.tolist()]


def group_tensors(context: ModelContext, artifact: Artifact) -> dict[str, Tensor]:
    """Names of the groups that have prompts, and the group of each item, ``int64 [N]``.

    An item belongs to its own prompt by the prompt's index, wherever it lies in the artifact.
    """
    groups = {k: v for k, v in book_of(context.data).groups(context.targets).items() if v}
    prompts = artifact["prompt"].cpu()
    group = torch.full_like(prompts, -1)
    for k, members in enumerate(groups.values()):
        group[torch.isin(prompts, torch.tensor(members))] = k
    return {"group": group, GROUPS: name_tensor([*groups])}


def items_of_groups(
    evidence: Evidence, retained: Sequence[str], n: int
) -> Iterator[tuple[str, Tensor, bool]]:
    """Suffix of a row, mask ``bool [n]`` of its items, and whether they are retained.

    First all items of retained groups (no suffix), then those of each group (``_GROUP``).

    Raises:
        MsgmBenchError: The groups are missing, or not of ``n`` items.
    """
    names, group = names_of(evidence, GROUPS), evidence.integers("group")
    if len(group) != n:
        raise MsgmBenchError(
            f"the evidence of {evidence.protocol} has the groups of {len(group)} items", f"of {n}"
        )
    members = torch.tensor([k for k, name in enumerate(names) if name in retained])
    yield "", torch.isin(group, members), True
    for k, name in enumerate(names):
        yield f"_{name}", group == k, name in retained


def storable(x: Tensor) -> Tensor:
    """``x`` on the CPU with infinity in the place of NaN, which evidence may not hold."""
    return torch.where(x.isnan(), torch.inf, x).cpu()


def check_same_length(evidence: Evidence, *tensors: Tensor) -> None:
    """Refuse tensors of one set of images that are not of one number; there may be none.

    Raises:
        MsgmBenchError: They are not.
    """
    lengths = {len(tensor) for tensor in tensors}
    if len(lengths) > 1:
        raise MsgmBenchError(
            f"the evidence of {evidence.protocol} is of {sorted(lengths)} images", "one number"
        )


def check_indices(evidence: Evidence, index: Tensor, count: int) -> None:
    """Refuse indices of concepts that are not within 0 and ``count - 1``.

    Raises:
        MsgmBenchError: One is not.
    """
    if len(index) and not 0 <= int(index.min()) <= int(index.max()) < count:
        raise MsgmBenchError(
            f"the evidence of {evidence.protocol} names the concepts {int(index.min())} to "
            f"{int(index.max())}",
            f"0 to {count - 1}",
        )
