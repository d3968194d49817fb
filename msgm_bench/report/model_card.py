"""The model card of an export: metadata for the Hub, facts, usage and values in markdown."""

from __future__ import annotations

from pathlib import Path

from msgm_bench.api import Result
from msgm_bench.api.track import track_name
from msgm_bench.experiment.pretrained import is_unlearned
from msgm_bench.report.metric_table import metric_table
from msgm_bench.report.model_index import card_data, front_matter
from msgm_bench.storage import markdown_code, markdown_text

COLUMNS = ("metric", "split", "value", "unit", "95 % interval", "n", "protocol")


def model_card(run: Path, result: Result, sha256: str, usage: str) -> str:
    """The model card.

    Args:
        run: The run folder, whose name is on the card.
        result: Its result.
        sha256: SHA-256 of the exported weights.
        usage: Markdown with the code that samples from the model.
    """
    spec = result.spec
    without = f", without {_forget(result)}" if is_unlearned(result) else ""
    lines = [
        front_matter(card_data(run.resolve().name, result, "diffusers")),
        f"# {spec.method} on {spec.dataset}{without}",
        "",
        "A diffusion model, scored by msgm-bench.",
        "",
        *(f"- {name}: {fact}" for name, fact in _facts(run, result, sha256).items()),
        "",
        "## Use",
        "",
        usage.strip("\n"),
        "",
        "## Measured",
        "",
        *metric_table((row for row in result.metrics if row.value is not None), COLUMNS),
    ]
    return "\n".join(lines) + "\n"


def _forget(result: Result) -> str:
    return markdown_text(", ".join(result.spec.forget))


def _facts(run: Path, result: Result, sha256: str) -> dict[str, str]:
    """Method, data, weights and origin, by their headings."""
    spec, provenance = result.spec, result.provenance
    track = "" if spec.track == "unconditional" else f" ({track_name(spec.track)})"
    ema = spec.settings.get("training", {}).get("ema_decay", 0)
    average = f"averaged with the decay {ema:g}" if ema else "as they were scored"
    facts = {
        "Method": f"`{spec.method}`, regime {spec.regime}, preset {spec.preset}, seed {spec.seed}",
        "Data": f"`{spec.dataset}`",
        "Forgotten": _forget(result) if is_unlearned(result) else "nothing",
        "Backbone": f"`{spec.backbone}`{track}",
        "Run": markdown_code(run.resolve().name),
        "Weights": f"{average}, sha256 `{sha256}`",
    }
    if spec.base:
        facts["Base model"] = f"sha256 `{spec.base}`"
    commit = provenance.get("git_commit")
    version = f"msgm-bench {provenance.get('versions', {}).get('msgm-bench', '')}"
    facts["Command"] = markdown_code(provenance.get("command", ""))
    facts["Version"] = f"{version}, commit {commit}" if commit else version
    return facts
