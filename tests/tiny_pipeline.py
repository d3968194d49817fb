"""A tiny Stable Diffusion with random weights, made by the libraries that make the large ones."""

from __future__ import annotations

import functools
import json

import torch
from lazy import LazyModule
from safetensors.torch import load_file, save_file

from msgm_bench import Conditioned

diffusers, peft = LazyModule("diffusers"), LazyModule("peft")
tokenizers, transformers = LazyModule("tokenizers"), LazyModule("transformers")

WORDS = (
    *("a", "the", "of", "on", "by", "photo", "painting", "red", "blue", "green", "left", "right"),
    *("circle", "ring", "square", "dog", "cat"),
)
START, END = "<|startoftext|>", "<|endoftext|>"
LENGTH, WIDTH, SIDE = 12, 32, 16  # tokens, channels of the text, px of an image
UNET = {
    "sample_size": SIDE // 2,
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": WIDTH,
    "attention_head_dim": 4,
    "norm_num_groups": 8,
}
VAE = {
    "block_out_channels": (16, 16),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "norm_num_groups": 8,
    "sample_size": SIDE,
}
SCHEDULER = {  # of Stable Diffusion 1.5, with fewer steps
    "num_train_timesteps": 50,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


@functools.cache
def bpe(words=WORDS):
    """Vocabulary and merges of a byte-level BPE, trained until each word is one token."""
    model = tokenizers.models.BPE(unk_token=END, end_of_word_suffix="</w>")
    tokenizer = tokenizers.Tokenizer(model)
    byte_level = tokenizers.pre_tokenizers.ByteLevel
    tokenizer.pre_tokenizer = byte_level(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=10_000,
        min_frequency=1,
        special_tokens=[START, END],
        end_of_word_suffix="</w>",
        initial_alphabet=sorted(byte_level.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(words, trainer)
    trained = json.loads(tokenizer.to_str())["model"]
    return trained["vocab"], [tuple(merge) for merge in trained["merges"]]


def make_tokenizer(words=WORDS, **changes):
    """CLIP's tokenizer on the words."""
    vocab, merges = bpe(words)
    options = {"model_max_length": LENGTH} | changes
    return transformers.CLIPTokenizer(vocab=vocab, merges=merges, **options)


def make_text_encoder(tokenizer, **changes):
    """CLIP's text encoder, always with the same weights."""
    options = {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": LENGTH,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return transformers.CLIPTextModel(transformers.CLIPTextConfig(**options | changes)).eval()


def make_pipeline(unet=None, vae=None, scheduler=None, text=None, words=WORDS):
    """The pipeline; dictionaries change options of its parts."""
    tokenizer = make_tokenizer(words)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return diffusers.StableDiffusionPipeline(
            vae=diffusers.AutoencoderKL(**VAE | (vae or {})).eval(),
            text_encoder=make_text_encoder(tokenizer, **(text or {})),
            tokenizer=tokenizer,
            unet=diffusers.UNet2DConditionModel(**UNET | (unet or {})).eval(),
            scheduler=diffusers.DDIMScheduler(**SCHEDULER | (scheduler or {})),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )


def write_pipeline(folder, **changes):
    """The pipeline as diffusers saves it today."""
    pipeline = make_pipeline(**changes)
    pipeline.save_pretrained(folder)
    return pipeline


def their_pictures(pipeline, latents, prompts, steps=5, s=3.0):
    """diffusers' pictures ``[N, 3, H, W]`` of latents ``[N, C, h, w]`` and N prompts."""
    pipeline.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": steps, "guidance_scale": s, "output_type": "pt"}
    return pipeline(list(prompts), latents=latents, **options).images


@torch.no_grad()
def our_pictures(model, scheduler, latents, condition, steps=5, s=3.0):
    """Pictures by diffusers' scheduler on the guided eps_hat of the model, s = 1 + w."""
    guided = Conditioned(model, condition, w=s - 1)
    scheduler.set_timesteps(steps)
    z = latents * scheduler.init_noise_sigma
    for k in scheduler.timesteps:
        t = torch.full((len(z),), (int(k) + 1) / SCHEDULER["num_train_timesteps"])
        z = scheduler.step(guided.eps(z, t), k, z).prev_sample
    return model.codec.decode(z)


def in_old_layout(folder, words=WORDS):
    """The layout of Stable Diffusion 1.5: two files of the tokenizer, ``text_model.`` in names."""
    vocab, merges = bpe(words)
    place = folder / "tokenizer"
    (place / "tokenizer.json").unlink()
    (place / "vocab.json").write_text(json.dumps(vocab))
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges), ""]
    (place / "merges.txt").write_text("\n".join(lines))
    special = {"content": END, "lstrip": False, "normalized": True, "rstrip": False}
    (place / "special_tokens_map.json").write_text(
        json.dumps({"bos_token": special | {"content": START}, "eos_token": special})
    )
    weights = folder / "text_encoder" / "model.safetensors"
    state = {f"text_model.{name}": tensor for name, tensor in load_file(weights).items()}
    state["text_model.embeddings.position_ids"] = torch.arange(LENGTH)[None]
    save_file(state, weights)


def edit(path, change):
    """Rewrite a JSON file."""
    path.write_text(json.dumps(change(json.loads(path.read_text("utf-8")))), encoding="utf-8")
