"""Tiny diffusion models of other programs, in the layouts of the hub."""

from __future__ import annotations

import json

import torch
from lazy import LazyModule

diffusers = LazyModule("diffusers")

CARD, SCHEDULE = "config.json", "scheduler_config.json"
SAFE, PICKLED = "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"
STEPS = 20
BETAS = {"beta_start": 0.01, "beta_end": 0.3}
SCHEDULER = {"num_train_timesteps": STEPS, **BETAS, "variance_type": "fixed_large"}
# keys and kinds of google/ddpm-cifar10-32, which diffusers 0.0.4 wrote, for 8x8 grey images
UNET = {
    "act_fn": "silu",
    "attention_head_dim": None,
    "block_out_channels": (16, 32),
    "center_input_sample": False,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "in_channels": 1,
    "layers_per_block": 1,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-6,
    "norm_num_groups": 8,
    "out_channels": 1,
    "sample_size": 8,
    "time_embedding_type": "positional",
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}
OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def network(**changes):
    """The U-Net, always with the same weights."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return diffusers.UNet2DModel(**UNET | changes).eval()


def write_flat(folder, scheduler=SCHEDULER, **changes):
    """Everything in one folder, as google/ddpm-cifar10-32 has it; the network."""
    unet = network(**changes)
    unet.save_pretrained(folder)
    keys = {"_class_name", "_diffusers_version", *UNET, *changes}
    edit(folder / CARD, lambda card: {k: v for k, v in card.items() if k in keys})
    plan = diffusers.DDPMScheduler(**scheduler)
    plan.save_pretrained(folder)
    diffusers.DDPMPipeline(unet, plan).save_config(folder)
    return unet


def write_pipeline(folder, scheduler=SCHEDULER, **changes):
    """``model_index.json``, ``unet/``, ``scheduler/``; the network."""
    unet = network(**changes)
    diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler(**scheduler)).save_pretrained(folder)
    return unet


def pickle_weights(folder, old=False):
    """The weights as a pickle; with the names that attention had in 2022 where ``old``."""
    state = network().state_dict()
    if old:
        state = {_old(name): tensor for name, tensor in state.items()}
    torch.save(state, folder / PICKLED)
    (folder / SAFE).unlink()


def _old(name):
    for new, former in OLD_NAMES.items():
        name = name.replace(f".{new}.", f".{former}.")
    return name


def edit(path, change):
    """Rewrite a JSON file."""
    path.write_text(json.dumps(change(json.loads(path.read_text("utf-8")))), encoding="utf-8")
