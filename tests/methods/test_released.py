"""The preset `paper` is the authors' run: batches, averages and optimisers of whole plans."""

from __future__ import annotations

import pytest

from msgm_bench import RunSpec
from msgm_bench.estimate.placeholder_data import known_data
from msgm_bench.experiment.plan import resolve_on_data
from msgm_bench.testing import check_method
from msgm_bench.training import Runtime
from msgm_builtin.methods.erase import Erase
from msgm_builtin.methods.erasediff import EraseDiff
from msgm_builtin.methods.salun import SalUn
from msgm_builtin.methods.selective_amnesia import SelectiveAmnesia

FORGET = {"cifar10": "automobile,dog", "stl10": "airplane", "celeba": "bangs", "mnist": "3,7"}
OWN = ("erasediff", "salun", "sfd", "selective_amnesia", "rgd", "esd")  # with budgets of their own


def planned(dataset="cifar10", **fields):
    """A plan of the preset `paper`, on noise in the place of files that are not here."""
    common = {"dataset": dataset, "forget": FORGET[dataset], "backbone": "ddpm", "preset": "paper"}
    spec = RunSpec.model_validate(common | fields)
    known = known_data(spec)
    targets = known.loaded.data.targets(spec.forget)
    return resolve_on_data(spec, Runtime.select("cpu", "fp32", False), known.loaded, targets, False)


@pytest.mark.parametrize(
    ("dataset", "items"), [("cifar10", 400), ("stl10", 200), ("celeba", 150), ("mnist", 128)]
)
@pytest.mark.parametrize("regime", ["retrain", "finetune"])
def test_batches_of_msgm(dataset, items, regime):
    """As many items of each split as the authors' configurations; MNIST's is score_sde's."""
    plan = planned(dataset, method="obt", backbone="vpsde", regime=regime)
    assert plan.training.budget.batch_size == items
    if regime == "finetune":
        assert plan.training.base.budget.batch_size == items


@pytest.mark.parametrize("method", ["ort", "obt", "erase", "finetune"])
@pytest.mark.parametrize(("backbone", "steps"), [("vpsde", 80_000), ("ddpm", 30_000)])
def test_msgms_fine_tuning_goes_on(method, backbone, steps):
    """Adam's state and raw weights of the base, no warm-up; its budgets, for its EraseDiff too."""
    budget = planned(method=method, backbone=backbone, regime="finetune").training.budget
    assert budget.continue_optimizer
    assert (budget.steps, budget.batch_size, budget.learning_rate) == (steps, 400, 2e-4)
    assert (budget.ema_decay, budget.use_ema_warmup) == (0.9999, True)


@pytest.mark.parametrize("method", OWN)
def test_other_methods_begin_anew(method):
    """Methods of other papers have Adam anew; the averages of three of them do not warm up."""
    budget = planned(method=method, conditional=True).training.budget
    assert not budget.continue_optimizer
    constant = method in ("erasediff", "sfd", "selective_amnesia")
    assert budget.use_ema_warmup == (not constant)


@pytest.mark.parametrize("method", OWN)
def test_no_method_of_paper_is_refused(method):
    """What a preset asks for suits the models that its method is for."""
    assert planned(method=method, conditional=True).skipped is None
    if method in ("erasediff", "salun", "selective_amnesia", "rgd"):
        assert planned(method=method).skipped is None


def test_the_conditional_chain_has_the_posteriors_variance():
    """DDPM's samples of classes, as released; those without classes keep beta."""
    plan = planned(method="unseen", conditional=True)
    assert plan.evaluation.tasks["class_generation"].options.sampler_options == {
        "variance": "posterior"
    }
    assert plan.evaluation.tasks["class_generation"].options.sampler == "ancestral"
    assert planned(method="unseen").evaluation.tasks["generation"].options.sampler_options == {}


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (Erase, {}),
        (
            EraseDiff,
            {
                "inner_epochs": 2,
                "inner_interval": 3,
                "adam_moments": "shared",
                "outer_max_grad_norm": 1.0,
            },
        ),
        (EraseDiff, {"label_dropout_split": "forget"}),
        (SalUn, {"mask_reduction": "mean", "mask_guidance": 0.0, "label_dropout": False}),
        (
            SelectiveAmnesia,
            {
                "samples_per_class": 2,
                "fisher_timesteps": 3,
                "nfe": 3,
                "sampler": "ancestral",
                "guidance": 2.0,
            },
        ),
    ],
)
def test_conformance(cls, options):
    """With the released options, too: forget sets differ, resume is exact, nothing leaks."""
    check_method(cls, options)
