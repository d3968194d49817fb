"""Training and sampling may round; what is measured does not."""

from __future__ import annotations

import pytest
import torch
from cli_harness import only, tiny

from msgm_bench import RunSpec
from msgm_bench.cache.cache import Cache
from msgm_bench.evaluation.artifacts import ARTIFACT
from msgm_bench.execution import run_stage
from msgm_bench.experiment.graph import artifact_stage, build_graph
from msgm_bench.experiment.plan import resolve
from msgm_bench.storage.tensors import load_tensors


def spec(**fields):
    """A tiny run in the plane."""
    return RunSpec(
        dataset="gaussians",
        forget="middle",
        backbone="vesde",
        method="standard",
        device="cpu",
        dataset_params={"train_size": 500, "test_size": 500},
        backbone_params={"width": 16, "depth": 1},
        task_params={"likelihood": {"rtol": 1e-2, "atol": 1e-2}, "generation": {"nfe": 5}},
        **{"steps": 5, "samples": 16} | fields,
    )


def drawn(plan, name, model, folder):
    """The artifact of a task from one and the same model."""
    folder.mkdir()
    task = plan.evaluation.tasks[name]
    stage = artifact_stage(plan, task, build_graph(plan).judge.context, model)
    stage.run(folder, {"model": run_stage(model, Cache(), {}).path}, lambda *a: None)
    return load_tensors(folder / ARTIFACT)


def test_bf16_samples_and_measures_in_fp32(cache, fast, tmp_path):
    """Of one model, samples differ with the precision and likelihoods agree to the bit."""
    exact, rounded = (resolve(spec(precision=p)) for p in ("fp32", "bf16"))
    model = build_graph(exact).model
    found = {
        (name, plan.runtime.precision): drawn(plan, name, model, tmp_path / f"{name}{i}")
        for i, plan in enumerate((exact, rounded))
        for name in ("likelihood", "generation")
    }
    one, other = found["likelihood", "fp32"], found["likelihood", "bf16"]
    assert one["nats"].dtype == torch.float64
    assert torch.equal(one["nats"], other["nats"])
    assert torch.equal(one["nfe"], other["nfe"])
    assert not torch.equal(found["generation", "fp32"]["x"], found["generation", "bf16"]["x"])


def test_judges_see_no_precision(cache, fast):
    """One judge serves all precisions; a model does not."""
    exact, rounded = (resolve(spec(precision=p)) for p in ("fp32", "bf16"))
    exact, rounded = build_graph(exact), build_graph(rounded)
    assert exact.judge.key == rounded.judge.key
    assert exact.model.key != rounded.model.key


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_protocols_of_samples_state_how_they_were_rounded(precision, bench, cache, fast, tmp_path):
    """Those of likelihoods do not, and fp32 goes without saying."""
    code, _, errors = bench(*tiny("--precision", precision, method="standard"))
    assert code == 0, errors
    protocols = only(tmp_path / "runs")["protocols"]
    stated = {name: p["settings"].get("sampling_precision") for name, p in protocols.items()}
    expected = None if precision == "fp32" else precision
    assert stated == {n: None if n.startswith("nll") else expected for n in protocols}
    assert len(stated) > 1
