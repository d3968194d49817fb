"""RGD's coreset: a small, diverse part of D_g, drawn once."""

from __future__ import annotations

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from msgm_bench import Examples, Session

MAX_KMEANS_ITEMS = 10_000


def coreset(
    session: Session, retain: Examples, grouping: str, n_clusters: int, items_per_group: int
) -> Examples:
    """The first ``items_per_group`` of each group in a random order, the same again on resume.

    Args:
        session: Its noise orders the items.
        retain: All items of D_g.
        grouping: ``class``, ``prompt``, ``kmeans`` or ``random``.
        n_clusters: Number of groups of kmeans and of random.
        items_per_group: Items of each group; a smaller group gives all that it has.
    """
    order = session.noise("order", count=len(retain)).uniform(()).argsort()
    match grouping:
        case "random":
            group = order % n_clusters
        case "kmeans":
            seed = session.noise("k-means", count=1).seed % 2**32
            group = kmeans_labels(retain.x, order, n_clusters, seed)
        case "prompt":
            assert retain.c is not None
            group = retain.c
        case _:
            group = retain.y
    positions = [order[group[order] == g][:items_per_group] for g in group.unique()]
    return retain[torch.cat(positions)]


def kmeans_labels(x: Tensor, order: Tensor, n_clusters: int, seed: int) -> Tensor:
    """K-means cluster of each item by its pixels, fitted on the first items of ``order``."""
    from sklearn.cluster import KMeans  # takes seconds, which other methods need not pay

    pixels = x.flatten(1).float().cpu().numpy()
    kmeans = KMeans(n_clusters, n_init=1, random_state=seed)
    with threadpool_limits(1):  # sums in one order, whatever the machine
        kmeans.fit(pixels[order[:MAX_KMEANS_ITEMS].cpu().numpy()])
        labels = kmeans.predict(pixels)
    return torch.from_numpy(labels).long().to(x.device)
