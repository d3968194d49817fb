"""The command that this program was made for, on fifty faces in CelebA's real layout."""

from __future__ import annotations

import fake_data
import pytest
from cli_harness import only
from PIL import Image
from tiny_clip import write_clip

COMMAND = (
    *("run", "--method", "obt", "--backbone", "vpsde", "--dataset", "celeba", "--forget", "bangs"),
    *("--preset", "quick", "--steps", "2", "-j", "steps=2"),
)


@pytest.mark.slow
def test_the_owners_command(cache, bench, tmp_path, monkeypatch):
    """Every stage and every metric; only Inception, of which no file is there, is a dash."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    clip = tmp_path / "faces" / "vit_base_patch32_clip_224.openai"
    clip.mkdir(parents=True)
    write_clip(clip)
    fake_data.write_celeba(tmp_path / "faces")
    out = tmp_path / "runs"
    # more items than features, and a U-Net a quarter as wide as the preset's, as deep as that
    small = ("--samples", "6", "-j", "embedding_dim=4", "-b", "channels=[8,16,16]")
    code, out_text, err = bench(*COMMAND, *small, "--data-dir", tmp_path / "faces", "--out", out)
    assert code == 0, err
    result = only(out)
    assert result["status"] == "ok"
    assert result["spec"]["forget"] == ["Bangs"]
    assert result["spec"]["settings"]["judge"]["name"] == "attributes"
    assert set(result["provenance"]["stages"]) >= {
        *("fit judge attributes", "train obt", "refer fid-judge", "measure"),
        *(f"draw {task}" for task in TASKS),
    }
    rows = {
        (row["task"], row["metric"], row["split"], row["protocol"]): row
        for row in result["metrics"]
    }
    quantities = {(task, metric, split) for task, metric, split, _ in rows}
    assert quantities >= EXPECTED
    dashes = {
        protocol: row["reason"] for (*_, protocol), row in rows.items() if row["value"] is None
    }
    assert "pt_inception-2015" in dashes["fid/inception-2015@1"]
    others = {name for name in dashes if not name.startswith("fid/inception-2015")}
    assert others <= {"unlearning_ratio/judge@1"}, "corrected only where the judge is any good"
    box = result["protocols"]["psnr/mean/inpainting@1"]["settings"]["inpainting"]["box"]
    assert box == [12, 0, 16, 64]
    stamps = {row["metric"] for row in rows.values() if row["stamp"]}
    assert stamps - {"ur_corrected"} == {
        "ur",
        "ur_argmax",
        "ur_floor",
        "unrecognisable",
        "unrecognisable_floor",
        "acc",
        "acc_clean",
        "fid",
    }
    assert "balanced accuracy" in out_text
    (folder,) = (path.parent for path in out.rglob("result.json"))
    for name in ("generation.png", "inpainting.png", "reconstruction.png"):
        with Image.open(folder / name) as picture:
            assert min(picture.size) > 100


TASKS = ("generation", "likelihood", "inpainting", "reconstruction")
EXPECTED = {
    *(("generation", name, "samples") for name in ("ur", "ur_corrected", "unrecognisable", "fid")),
    ("generation", "ur_floor", "retain"),
    *(("likelihood", "nll", split) for split in ("retain", "forget")),
    *((t, "acc", s) for t in TASKS[2:] for s in ("retain", "forget")),
    *((t, name, "retain") for t in TASKS[2:] for name in ("psnr", "ssim", "fid", "clip")),
}
