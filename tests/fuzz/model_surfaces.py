"""Third-party models, judges and embedders: cards, and weights beside them."""

from __future__ import annotations

import json
from pathlib import Path

import hub_layout
import tiny_pipeline
import torch
from data_surfaces import folder_options, write_images
from lazy import LazyModule
from result_surfaces import GAUSSIANS, OBT, SMALL, run_of, write_runs
from safetensors.torch import save_file
from surface import Surface
from tiny_clip import write_clip

from msgm_builtin.judges.networks import small
from msgm_text.datasets.scenes_language import vocabulary

peft = LazyModule("peft")

HO = {"num_train_timesteps": 1000, "variance_type": "fixed_large"}  # as the backbone has it
DIGITS = ("--dataset", "digits", "--forget", "3")
WIDTH = 8  # of the judge


def _model_commands(folder: Path) -> list[list[str]]:
    model = str(run_of(folder, "obt") / "model")
    return [["evaluate", model, *GAUSSIANS, *SMALL, "--dry-run"]]


def _base_commands(folder: Path) -> list[list[str]]:
    base = ["--backbone", "ddpm", "--base", str(folder / "base")]
    return [["run", *DIGITS, *base, "--method", "obt", "--dry-run"]]


def _flat(folder: Path) -> None:
    hub_layout.write_flat(folder / "base", HO)
    (folder / "base" / "origin.json").write_text(json.dumps({"dataset": "digits", "without": []}))


def _pipeline(folder: Path) -> None:
    hub_layout.write_pipeline(folder / "base", HO)


def _pickled(folder: Path) -> None:
    hub_layout.write_flat(folder / "base", HO)
    hub_layout.pickle_weights(folder / "base")


def _clip(folder: Path) -> None:
    (folder / "clip").mkdir()
    write_clip(folder / "clip")
    write_images(folder)


def _clip_commands(folder: Path) -> list[list[str]]:
    clip = str(folder / "clip")
    options = folder_options(folder)
    return [["run", *options, "-j", "name=clip", "-j", f"path={clip}", "--dry-run"]]


def _clip_tensors(folder: Path) -> None:
    _clip(folder)
    pickled = folder / "clip" / "open_clip_pytorch_model.bin"
    state = torch.load(pickled, weights_only=True)
    save_file(state, folder / "clip" / "open_clip_model.safetensors")
    pickled.unlink()


def _judge(folder: Path) -> None:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        network = small(1, WIDTH, 11)  # ten digits, and what is none
    save_file(network.state_dict(), folder / "judge.safetensors")


def _judge_commands(folder: Path) -> list[list[str]]:
    judge = ["-j", "name=classifier", "-j", f"width={WIDTH}", "-j", f"path={folder}"]
    return [["run", *DIGITS, "--backbone", "vesde", "--method", "obt", *judge, "--dry-run"]]


def _text_pipeline(folder: Path) -> None:
    tiny_pipeline.write_pipeline(folder / "base", words=vocabulary())


def _old_text_pipeline(folder: Path) -> None:
    _text_pipeline(folder)
    tiny_pipeline.in_old_layout(folder / "base", words=vocabulary())


def _lora(folder: Path) -> None:
    pipeline = tiny_pipeline.write_pipeline(folder / "base", words=vocabulary())
    targets = ["to_q", "to_k"]
    pipeline.unet.add_adapter(peft.LoraConfig(r=2, target_modules=targets))
    pipeline.unet.save_lora_adapter(folder)


def _text_commands(folder: Path) -> list[list[str]]:
    base = ["--backbone", "stable_diffusion", "--base", str(folder / "base"), *SCENES]
    return [["run", *base, "--method", "standard", "--dry-run"]]


def _lora_commands(folder: Path) -> list[list[str]]:
    lora = [str(folder / LORA), "--backbone", "stable_diffusion"]
    return [["evaluate", *lora, "--base", str(folder / "base"), *SCENES, "--dry-run"]]


TEXT = ("base/text_encoder/config.json", "base/tokenizer/tokenizer.json")
SCENES = (
    *("--dataset", "scenes", "--forget", "circle", "--text"),
    *("-d", "train_size=500", "-d", "test_size=500"),
)
LORA = "pytorch_lora_weights.safetensors"
BASE = "base/diffusion_pytorch_model"
SURFACES = [
    Surface("model's card", write_runs, f"{OBT}/model/model.json", "json", _model_commands),
    Surface(
        *("model's weights", write_runs, f"{OBT}/model/weights.safetensors", "safetensors"),
        _model_commands,
    ),
    Surface("network's card", _flat, "base/config.json", "json", _base_commands),
    Surface("scheduler's card", _flat, "base/scheduler_config.json", "json", _base_commands),
    Surface("pipeline's card", _pipeline, "base/model_index.json", "json", _base_commands),
    Surface("origin", _flat, "base/origin.json", "json", _base_commands),
    Surface("base's weights", _flat, f"{BASE}.safetensors", "safetensors", _base_commands),
    Surface("pickled weights", _pickled, f"{BASE}.bin", "bytes", _base_commands),
    Surface(
        "text pipeline's card", _text_pipeline, "base/model_index.json", "json", _text_commands
    ),
    Surface("text encoder's card", _text_pipeline, TEXT[0], "json", _text_commands),
    Surface("tokenizer", _text_pipeline, TEXT[1], "json", _text_commands),
    Surface("merges", _old_text_pipeline, "base/tokenizer/merges.txt", "bytes", _text_commands),
    Surface("LoRA", _lora, LORA, "safetensors", _lora_commands),
    Surface("judge", _judge, "judge.safetensors", "safetensors", _judge_commands),
    Surface("CLIP's card", _clip, "clip/open_clip_config.json", "json", _clip_commands),
    Surface("CLIP's pickle", _clip, "clip/open_clip_pytorch_model.bin", "bytes", _clip_commands),
    Surface(
        *("CLIP's weights", _clip_tensors, "clip/open_clip_model.safetensors", "safetensors"),
        _clip_commands,
    ),
]
