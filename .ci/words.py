"""Identifiers that the project does not use: `python .ci/words.py [FILE OR FOLDER ...]`.

Only names that a file binds count (definitions, arguments, assignments, fields, aliases, modules),
as the syntax tree has them: what another library calls its attributes is its own business, and
prose is read by people. Prints one line a violation; exit code 1 where there is one.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

DEFAULT = ("msgm_bench", "plugins", "examples")
NOUN = "the field's noun or verb"
ANYWHERE = dict.fromkeys(
    [
        "told",
        "said",
        "asked",
        "given",
        "found",
        "kept",
        "shown",
        "taken",
        "few",
        "over",
        "each",
        "elsewhere",
    ],
    NOUN,
) | {
    "aimed": "forget_batch_and_target",
    "arranged": "resolve",
    "beta1": "adam_betas",
    "beta2": "adam_betas",
    "bound_nll": "elbo_nll",
    "budget_for": "with_nfe",
    "capped": "limit_samples",
    "ceiled": "clipped_error",
    "crowd": NOUN,
    "demands": "required_task_options",
    "excursion": "inner_loop",
    "faithful": "noise_in_input",
    "foreign": "mismatch",
    "forgotten": "forget_labels",
    "forward_eps": "eps_fn",
    "fresh": "untrained_model",
    "keep_apart": "archive_other_base",
    "lap": "elapsed",
    "limited": "time_limit",
    "lost": "unsupported_tasks",
    "misses": "baseline_violations",
    "noise_matching": "dsm_loss",
    "orientation": "direction_sign",
    "reachable": "inner_loop_loss",
    "refers": "needs_reference",
    "settled": "mean_after_warmup",
    "spec_record": "ResolvedSpec.of",
    "steps_for": "steps_within",
    "time_of": "t_from_noise_to_signal",
    "unconditional": "label_dropout_prob",
}
FUNCTIONS = {
    "coefficients": "marginal",
    "ensure": "run_stage",
    "preparation": "num_preparation_steps",
    "prepare": "preparation_step",
    "rates": "drift_diffusion",
    "refer": "compute_reference",
    "resolved": "with_model_defaults",
}
CLASSES = {
    "Adopted": "PretrainedNetwork",
    "Chore": "TaskEstimate",
    "Config": "Options",
    "DataInfo": "DataStats",
    "Gauge": "MetricInfo",
    "Given": "BaseCheckpoint",
    "GreyLevels": "UniformDequantization",
    "Key": "Quantity",
    "Outline": "RunEstimate",
    "Pace": "Timing",
    "Points": "IdentityCodec",
    "Scene": "EvalContext",
    "Sketch": "DatasetInfo",
    "Solver": "ReverseSampler",
    "Standing": "RankedRow",
    "Stint": "TrainingEstimate",
    "Subject": "ModelContext",
    "Verdict": "Prediction",
}
MODULES = {
    "bound": "elbo",
    "codec": "dequantization",
    "descent": "optimizer",
    "described": "unet_from_config",
    "describing": "run_estimate",
    "epsilon": "noise_prediction",
    "feed": "batches",
    "folders": "diffusers_io",
    "held_out": "held_out_items",
    "ingest": "import_results",
    "judging": "judge",
    "limits": "model_io",
    "measuring": "scoring",
    "modelfile": "model_io",
    "outline": "estimate or records",
    "passes": "pass_counter",
    "pictures": "plots",
    "pipeline": "experiment, report, estimate or cache",
    "sheets": "image_grids",
    "standin": "placeholder_data",
    "suite": "components",
    "tracks": "components",
}


def main() -> int:
    """Print the violations below the paths of the command line."""
    files = [file for path in sys.argv[1:] or DEFAULT for file in python_files(Path(path))]
    if not files:
        print("no Python file here: run it at the repository's root, or name files or folders")
        return 2
    lines = [line for file in files for line in violations(file)]
    print("\n".join([*lines, f"{len(lines)} banned identifiers in {len(files)} files"]))
    return int(bool(lines))


def python_files(path: Path) -> list[Path]:
    """The file, or all below the folder."""
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]


def violations(path: Path) -> Iterator[str]:
    """A line for each banned name that the file, its folder or its own name binds."""
    for word in (path.stem, path.parent.name):
        if word in MODULES or word in ANYWHERE:
            yield f"{path}:1: module {word}: use {(MODULES | ANYWHERE)[word]}"
    for node in ast.walk(ast.parse(path.read_text("utf-8"), str(path))):
        kinds = {ast.ClassDef: CLASSES, ast.FunctionDef: FUNCTIONS, ast.AsyncFunctionDef: FUNCTIONS}
        banned = ANYWHERE | kinds.get(type(node), {})
        for name in bound_names(node):
            if name.lstrip("_") in banned:
                line = getattr(node, "lineno", 1)
                yield f"{path}:{line}: {name}: use {banned[name.lstrip('_')]}"


def bound_names(node: ast.AST) -> list[str]:
    """Names that this node itself binds, those of its children not among them."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.arg(arg=name):
            return [name]
        case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
            return [name]
        case ast.alias(asname=str(name)) | ast.ExceptHandler(name=str(name)):
            return [name]
        case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            return [name]
    return []


if __name__ == "__main__":
    sys.exit(main())
