"""A request with every default resolved, as ``result.json`` stores it."""

from __future__ import annotations

from typing import Self

from msgm_bench.api import SpecRecord
from msgm_bench.experiment.judge import judge_record
from msgm_bench.experiment.plan import Plan


class ResolvedSpec(SpecRecord):
    """What is run, with every default resolved."""

    @classmethod
    def of(cls, plan: Plan) -> Self:
        """The resolved request of a plan."""
        spec, training, evaluation = plan.spec, plan.training, plan.evaluation
        settings = {
            "training": training.budget.model_dump(mode="json") if training else {},
            "pass_items": training.pass_items if training else None,
            "tasks": {n: t.options.model_dump(mode="json") for n, t in evaluation.tasks.items()},
            "judge": judge_record(evaluation.judge),
            "steps": spec.steps,
            "samples": spec.samples,
        }
        return cls(
            dataset=spec.dataset,
            forget=[plan.data.classes[target] for target in plan.targets],
            backbone=spec.backbone,
            method=spec.method,
            params=training.method.options.model_dump(mode="json") if training else {},
            regime=training.regime if training else "external",
            preset=plan.preset,
            seed=spec.seed,
            seeds=spec.seeds,
            backbone_params=plan.backbone.options.model_dump(mode="json"),
            dataset_params=spec.dataset_params,
            settings=settings,
            conditional=spec.conditional,
            text=spec.text,
            base=plan.base.sha256 if plan.base else None,
        )
