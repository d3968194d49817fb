"""Once: stored results of msgm-bench/result@2 to @3, whose keys are the field's words.

    python migrations/0003_field_words.py

A file is refused unless its digest and the hashes of its protocols are those of its content. Keys,
presets and names of protocols change by the tables below. Values, seeds, versions of protocols and
the rest of the provenance stay, and options must be valid for the installed plugins.
``provenance.migrated_from`` is the format in which the result was first written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgm_bench.api import Training
from msgm_bench.api.result import SCHEMA, MetricProtocol, Result, digest
from msgm_bench.boards.plausibility import violation
from msgm_bench.boards.protocols import check_hashes
from msgm_bench.registry import registry
from msgm_bench.storage import read_json, write_text

ROOT = Path(__file__).parents[1]
OLD = "msgm-bench/result@2"
PATTERNS = ("leaderboards/*/results/*.json", "plugins/msgm_paper/measured/*.json")

PRESETS = {"standard": "full"}
PROTOCOLS = {"bound": "elbo", "kept-classes": "retain-classes"}  # parts of a name
SKIPPED = {"left_out": "tasks", "unmeasured": "metrics"}
LIMITS = {"lost": "unsupported_tasks", "demands": "required_task_options"}
TRAINING = {
    "warmup": "warmup_steps",
    "decay": "lr_schedule",
    "clip": "max_grad_norm",
    "ema": "ema_decay",
    "ema_warmup": "use_ema_warmup",
    "unconditional": "label_dropout_prob",
}
SCHEDULES = {"none": "constant"}
METHODS: Mapping[str, Mapping[str, str]] = {
    "ort": {"every": "forget_interval"},
    "obt": {"every": "forget_interval", "cosine": "use_cosine", "truncate": "max_error"},
    "erase": {"every": "forget_interval"},
    "neggrad": {"truncate": "clipping", "cap": "max_error"},
    "erasediff": {
        "faithful": "noise_in_input",
        "rule": "lambda_rule",
        "weight": "forget_weight",
        "inner_every": "inner_interval",
        "moments": "adam_moments",
        "outer_clip": "outer_max_grad_norm",
        "label_dropout": "label_dropout_split",
    },
    "salun": {"fraction": "mask_fraction", "clip": "target_clip_value"},
    "rgd": {
        "weight": "retain_weight",
        "diversity": "grouping",
        "per_group": "items_per_group",
        "clusters": "n_clusters",
        "retain": "retain_items",
    },
    "selective_amnesia": {
        "weight": "ewc_weight",
        "per_class": "samples_per_class",
        "timesteps": "fisher_timesteps",
    },
    "esd": {
        "push_from": "erase_from",
        "states": "state_source",
        "weights": "trainable_weights",
        "per_class": "samples_per_class",
    },
    "sfd": {
        "sigma": "generator_sigma",
        "sigmas": "sigma_range",
        "safe": "safe_class",
        "share": "forget_fraction",
        "first_stage": "first_stage_fraction",
        "fake_rate": "fake_learning_rate",
        "clip_value": "max_grad_value",
    },
}
SAMPLING = {"options": "sampler_options"}
TASKS: Mapping[str, Mapping[str, str]] = {
    "generation": SAMPLING,
    "class_generation": SAMPLING | {"forgotten": "per_forget_class"},
    "reconstruction": SAMPLING,
}
LEARNED = {"level": "rejection_rate", "shift": "max_shift", "embedding": "embedding_dim"}
JUDGES: Mapping[str, Mapping[str, str]] = {
    "classifier": LEARNED,
    "attributes": LEARNED,
    "bayes": {"level": "rejection_rate"},
    "clip": {
        "present": "present_template",
        "absent": "absent_template",
        "unrecognisable": "unrecognisable_prompts",
    },
}


def main() -> None:
    """Rewrite the stored results of the old format, after all of them have passed the checks."""
    paths = sorted(path for pattern in PATTERNS for path in ROOT.glob(pattern))
    documents = {path: read_json(path, path.parent) for path in paths}
    texts = {
        path: migrated(path, document).to_json()
        for path, document in documents.items()
        if document["schema"] != SCHEMA
    }
    for path in ROOT.glob("leaderboards/*/board.yaml"):
        texts[path] = definition(path.read_text("utf-8"))
    for path, text in texts.items():
        write_text(path, text)


def migrated(path: Path, document: dict[str, Any]) -> Result:
    """A document of the old format as a result of the new one."""
    check_old(path, document)
    spec, provenance = document["spec"], document["provenance"]
    spec["preset"] = PRESETS.get(spec["preset"], spec["preset"])
    spec["params"] = renamed(spec["params"], METHODS.get(spec["method"], {}))
    settings = spec["settings"]
    settings["training"] = training(settings["training"])
    settings["tasks"] = tasks(settings["tasks"])
    settings["judge"] = judge(settings["judge"], settings["judge"]["name"])
    ids = {name: protocol_name(name) for name in document["protocols"]}
    document["protocols"] = {
        ids[name]: protocol(ids[name], entry["settings"])
        for name, entry in document["protocols"].items()
    }
    rows = [row | {"protocol": ids[row["protocol"]]} for row in document["metrics"]]
    document["metrics"] = rows
    skipped = [
        {"kind": kind, "name": name, "reason": reason}
        for key, kind in SKIPPED.items()
        for name, reason in provenance.pop(key, {}).items()
    ]
    limits = renamed(provenance.get("limits", {}), LIMITS)
    if limits:
        limits["required_task_options"] = tasks(limits["required_task_options"])
    provenance |= {"limits": limits, "skipped": skipped}
    provenance.setdefault("migrated_from", OLD)
    parts = {key: document[key] for key in ("status", "reason", "spec", "metrics", "protocols")}
    result = Result(**parts, provenance=provenance)
    check_new(path, result, rows)
    return result


def definition(text: str) -> str:
    """The text of a board.yaml with protocols under their new names."""
    for old, new in PROTOCOLS.items():
        text = text.replace(f"/{old}@", f"/{new}@")
    return text


def renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The mapping under new keys, in its order."""
    return {names.get(key, key): value for key, value in values.items()}


def training(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a training; Adam's two decay rates become one option."""
    new = renamed(values, TRAINING)
    if "lr_schedule" in new:
        new["lr_schedule"] = SCHEDULES.get(new["lr_schedule"], new["lr_schedule"])
    betas = [new.pop(key, default) for key, default in (("beta1", 0.9), ("beta2", 0.999))]
    return new | ({"adam_betas": betas} if new else {})


def tasks(values: Mapping[str, Any]) -> dict[str, Any]:
    """Options of tasks, by the task's name."""
    return {name: task(options, TASKS.get(name, {})) for name, options in values.items()}


def task(options: Any, names: Mapping[str, str]) -> Any:
    """Options of a task; a likelihood's protocol has a new name, too."""
    new = renamed(options, names)
    if "protocol" in new:
        new["protocol"] = PROTOCOLS.get(new["protocol"], new["protocol"])
    return new


def judge(options: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Options of a judge."""
    return renamed(options, JUDGES.get(name, {}))


def protocol_name(name: str) -> str:
    """The id of a protocol, ``name@version``, with its parts renamed."""
    stem, at, version = name.partition("@")
    return "/".join(PROTOCOLS.get(part, part) for part in stem.split("/")) + at + version


def protocol(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The record of a protocol: settings of its tasks and its judge renamed, hash anew."""
    known = {key: value for key, value in settings.items() if key in TASKS}
    settings = task(settings | tasks(known), {})
    if "judge" in settings:
        record = settings["judge"]
        settings["judge"] = record | {"options": judge(record["options"], record["name"])}
    stem, _, version = name.partition("@")
    return {"hash": protocol_hash(stem, int(version), settings), "settings": settings}


def protocol_hash(name: str, version: int, settings: dict[str, Any]) -> str:
    """The hash of a protocol."""
    return MetricProtocol(name=name, version=version, settings=settings).hash


def check_old(path: Path, document: dict[str, Any]) -> None:
    """Refuse a file that is no untouched result of the old format."""
    if document["schema"] != OLD:
        raise SystemExit(f"{path} is not of {OLD}")
    content = {key: value for key, value in document.items() if key not in ("digest", "provenance")}
    content["schema_"] = content.pop("schema")
    if digest(content) != document["digest"]:
        raise SystemExit(f"{path}: its digest is not that of its content")
    for name, entry in document["protocols"].items():
        stem, _, version = name.partition("@")
        if entry["hash"] != protocol_hash(stem, int(version), entry["settings"]):
            raise SystemExit(f"{path}: the hash of {name} is not that of its settings")
    old = {key for names in (*METHODS.values(), *TASKS.values(), *JUDGES.values()) for key in names}
    command = document["provenance"]["command"]
    pairs = (word for word in command.split() if "=" in word)
    keys = {pair.partition("=")[0].rpartition(".")[2] for pair in pairs}
    if keys & old or "--preset standard" in command:
        raise SystemExit(f"{path}: its command has options with new names")


def check_new(path: Path, result: Result, rows: list[dict[str, Any]]) -> None:
    """Refuse a result that is not valid, or whose options its plugins do not have."""
    again = Result.model_validate_json(result.to_json())
    if json.loads(again.to_json())["metrics"] != rows:
        raise SystemExit(f"{path}: rows changed")
    check_hashes(again, str(path))
    reason = violation(again)
    if reason is not None:
        raise SystemExit(f"{path}: {reason}")
    spec, settings = again.spec, again.spec.settings
    registry().create("methods", spec.method, spec.params)
    registry().create("backbones", spec.backbone, spec.backbone_params)
    registry().create("datasets", spec.dataset, spec.dataset_params)
    Training.model_validate(settings["training"])
    for name, options in settings["tasks"].items():
        registry().create("tasks", name, options)
    options = dict(settings["judge"])
    registry().create("judges", options.pop("name"), options)


if __name__ == "__main__":
    main()
