"""The two tracks: models that are told the class of an item, and models that are not."""

from __future__ import annotations

from dataclasses import replace

from msgm_bench.api import Backbone, Data, DataInfo
from msgm_bench.errors import IncompatibleError
from msgm_bench.pipeline.spec import RunSpec


def info_for(spec: RunSpec, data: Data, info: DataInfo, backbone: type[Backbone]) -> DataInfo:
    """What the backbone is told: with ``spec.conditional`` the number of classes, too.

    Raises:
        IncompatibleError: The items have no single class each, or the backbone takes none.
    """
    if not spec.conditional:
        return info
    if data.train.y.ndim != 1:
        raise IncompatibleError(
            f"class-conditional models of {spec.dataset!r}, whose labels are attributes",
            "datasets whose items have one class each",
            "leave out --conditional",
        )
    if not backbone.conditional:
        raise IncompatibleError(
            f"class-conditional models of the backbone {spec.backbone!r}",
            "backbones whose networks take a class",
            "leave out --conditional",
        )
    return replace(info, classes=len(data.classes))
