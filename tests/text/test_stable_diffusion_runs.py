"""Runs on a tiny Stable Diffusion: every method, export, and models of other programs."""

from __future__ import annotations

import json
import shutil

import cli_harness
import pytest
import torch
from lazy import LazyModule
from safetensors.torch import load_file, save_file
from tiny_pipeline import edit, our_pictures, their_pictures, write_pipeline

from msgm_bench.cache.cache import Cache
from msgm_bench.execution import run_stage
from msgm_bench.experiment.graph import build_graph
from msgm_bench.experiment.plan import resolve
from msgm_bench.experiment.spec import RunSpec
from msgm_bench.report import run_folder
from msgm_text.datasets.scenes_language import vocabulary

diffusers = LazyModule("diffusers")

CPU = torch.device("cpu")
METHODS = (
    *("standard", "unseen", "finetune", "neggrad", "esd", "uce", "ca", "salun", "erasediff"),
    *("rgd", "sfd", "ort", "obt"),
)
PARAMS = {"esd": {"weights": "cross"}}
DATA = {"train_size": 500, "test_size": 500}
PLUGINS = (
    *("datasets.scenes", "backbones.stable_diffusion", "samplers.*", "methods.*"),
    *("tasks.prompt_generation", "judges.scenes", "metrics.concept_accuracy", "trackers.*"),
)
PROMPTS = ("a red circle", "a blue ring")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A pipeline that knows the words of the scenes."""
    folder = tmp_path_factory.mktemp("base") / "pipeline"
    write_pipeline(folder, words=vocabulary())
    return folder


@pytest.fixture(autouse=True)
def few_plugins(monkeypatch, new_registry):
    """One task and one metric, and no pictures."""
    monkeypatch.setenv("MSGM_BENCH_PLUGINS", ",".join(PLUGINS))
    monkeypatch.setattr(run_folder, "_draw_pictures", cli_harness.draw_nothing)
    new_registry.cache_clear()


def spec(base, method, **fields):
    """Five steps of a method."""
    return RunSpec(
        dataset="scenes",
        forget="circle",
        backbone="stable_diffusion",
        base=str(base),
        text=True,
        method=method,
        device="cpu",
        steps=5,
        samples=4,
        dataset_params=DATA,
        **fields,
    )


def request(base, *arguments):
    """The same as arguments of the command line."""
    options = ("-d", "train_size=500", "-d", "test_size=500", "--device", "cpu", "--samples", "4")
    data = ("--dataset", "scenes", "--forget", "circle", *options)
    return (*arguments, *data, *(("--base", str(base)) if base else ()))


RUN = (
    *("run", "--backbone", "stable_diffusion", "--text", "--steps", "5"),
    *("-t", "prompt_generation.nfe=2"),
)
EVALUATE = ("--backbone", "stable_diffusion", "--text", "-t", "prompt_generation.nfe=2")


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_method_goes_to_diffusers(base, tmp_path, method):
    """Diffusers draws the model's pictures with the exported pipeline, whose weights have moved."""
    plan = resolve(spec(base, method, params=PARAMS.get(method, {})))
    assert plan.skipped is None
    graph, known, cache = build_graph(plan), {}, Cache()
    stage = graph.model
    run_stage(stage, cache, known)
    folders = {name: run_stage(part, cache, known).path for name, part in stage.files.items()}
    model = stage.load(folders, CPU)
    plan.backbone.save_pretrained(model, tmp_path)
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path)
    latents = torch.randn(2, *model.shape, generator=torch.Generator().manual_seed(1))
    index = torch.tensor(model.prompts.indices(PROMPTS))
    expected = their_pictures(pipeline, latents, PROMPTS, steps=3)
    assert torch.allclose(
        our_pictures(model, pipeline.scheduler, latents, index, 3), expected, atol=2e-5
    )
    weights = load_file(base / "unet" / "diffusion_pytorch_model.safetensors")
    moved = any(not torch.equal(w, weights[n]) for n, w in pipeline.unet.state_dict().items())
    assert moved == (method != "standard")


def test_a_lora_is_trained_exported_and_evaluated(base, bench, cache, tmp_path):
    """The file of the export has the run's values over the base, in diffusers' hands and here."""
    code, _, errors = bench(*request(base, *RUN, "--method", "esd", "-p", "weights=lora:2"))
    assert code == 0, errors
    (run,) = (path.parent for path in (tmp_path / "runs").rglob("result.json"))
    names = set(load_file(run / "model" / "weights.safetensors"))
    assert all(".lora_" in name for name in names)
    assert {path.name for path in (run / "model").iterdir()} == {
        "model.json",
        "weights.safetensors",
    }
    code, _, errors = bench("export", run, "lora")
    assert code == 0, errors
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(base)
    pipeline.load_lora_weights(tmp_path / "lora")
    shutil.rmtree(cache)
    for source, out in (("lora", "file"), (run, "folder")):
        options = EVALUATE if source == "lora" else EVALUATE[3:]
        code, _, errors = bench(*request(base, "evaluate", source, *options, "--out", out))
        assert code == 0, errors
        assert values(cli_harness.only(tmp_path / out)) == values(cli_harness.only(run))


def values(result):
    """Values of a result by metric and split."""
    return {(row["metric"], row["split"]): row["value"] for row in result["metrics"]}


def test_a_whole_pipeline_is_exported_and_evaluated(base, bench, tmp_path):
    """With --base the export is a pipeline, which has the run's values as it is."""
    code, _, errors = bench(*request(base, *RUN, "--method", "uce"))
    assert code == 0, errors
    (run,) = (path.parent for path in (tmp_path / "runs").rglob("result.json"))
    code, _, errors = bench("export", run, "whole", "--base", base)
    assert code == 0, errors
    diffusers.StableDiffusionPipeline.from_pretrained(tmp_path / "whole")
    code, _, errors = bench(*request(None, "evaluate", "whole", *EVALUATE, "--out", "again"))
    assert code == 0, errors
    assert values(cli_harness.only(tmp_path / "again")) == values(cli_harness.only(run))
    code, _, errors = bench("export", run, "part")
    assert code == 0, errors
    assert set(load_file(tmp_path / "part" / "unet.safetensors"))
    code, _, errors = bench(*request(base, "evaluate", "part", *EVALUATE, "--out", "third"))
    assert code == 0, errors
    assert values(cli_harness.only(tmp_path / "third")) == values(cli_harness.only(run))


def test_the_key_of_a_run_knows_no_path(base, tmp_path):
    """The same base in another folder is the same base; another autoencoder is another."""
    moved = shutil.copytree(base, tmp_path / "elsewhere")
    first, second = (build_graph(resolve(spec(place, "esd"))) for place in (base, moved))
    assert first.model.inputs == second.model.inputs
    assert first.base.inputs == second.base.inputs
    vae = moved / "vae" / "diffusion_pytorch_model.safetensors"
    save_file({name: 2 * tensor for name, tensor in load_file(vae).items()}, vae)
    assert build_graph(resolve(spec(moved, "esd"))).base.inputs != first.base.inputs


# Bad input -----------------------------------------------------------------------------------


def fails(bench, *arguments):
    """The error of a command that trains and draws nothing."""
    code, _, errors = bench(*arguments)
    assert code != 0
    assert "done in" not in errors.replace("fit judge scenes: done in", "")
    return " ".join(errors.split())


def test_no_base(bench):
    """Without --base the error says what it is for."""
    errors = fails(bench, *request(None, *RUN, "--method", "esd"))
    assert "'stable_diffusion' without a base" in errors
    assert "--base DIR" in errors


def test_no_text(base, bench):
    """Without --text there are no prompts."""
    arguments = [part for part in request(base, *RUN, "--method", "esd") if part != "--text"]
    assert "--text" in fails(bench, *arguments)


def test_a_lora_of_another_network(base, bench, tmp_path):
    """The first tensor that does not fit is named."""
    name = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
    factors = {"lora_A": torch.ones(4, 768), "lora_B": torch.ones(320, 4)}
    save_file({f"{name}.{k}.weight": v for k, v in factors.items()}, tmp_path / "x.safetensors")
    errors = fails(bench, *request(base, "evaluate", "x.safetensors", *EVALUATE))
    assert "attn2.to_k has factors (4, 768) and (320, 4) for weights (32, 32)" in errors


def test_a_file_without_its_base(bench, tmp_path):
    """A LoRA alone is no model."""
    save_file({"unet.a.lora_A.weight": torch.ones(2, 2)}, tmp_path / "x.safetensors")
    errors = fails(bench, *request(None, "evaluate", "x.safetensors", *EVALUATE))
    assert "is no folder" in errors
    errors = fails(bench, *request(None, "evaluate", "x.safetensors"))
    assert "is a file" in errors


def test_a_base_with_another_prediction(base, bench, tmp_path):
    """A prediction that the bench does not know is named before anything is trained."""
    folder = shutil.copytree(base, tmp_path / "sample")
    edit(
        folder / "scheduler" / "scheduler_config.json", lambda c: c | {"prediction_type": "sample"}
    )
    errors = fails(bench, *request(folder, *RUN, "--method", "esd"))
    assert "prediction_type = 'sample'" in errors


def test_an_unknown_part(base, bench):
    """The parts of the network are named."""
    errors = fails(bench, *request(base, *RUN, "--method", "esd", "-p", "weights=crosss"))
    assert "no such part" in errors
    assert "cross_kv" in errors


def test_options_of_the_base_are_the_bases(base, bench):
    """-b pipeline=... beside --base is refused."""
    card = json.dumps({"unet": {}})
    errors = fails(bench, *request(base, *RUN, "--method", "esd", "-b", f"pipeline={card}"))
    assert "pipeline" in errors
