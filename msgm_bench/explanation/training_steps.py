"""The steps from the data to the model: data, base model, method."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgm_bench.api import Result
from msgm_bench.api.class_names import comma_list
from msgm_bench.boards.departures import departures
from msgm_bench.experiment.recording import RECORD
from msgm_bench.explanation.plugins import citation, code_text
from msgm_bench.explanation.stages import StageFacts, stage_facts
from msgm_bench.explanation.step import Step, facts, mapping, options_text, short_hash
from msgm_bench.submissions.code import EXTERNAL, installed

BASE_STAGES = ("base", "take the base")
TAKEN_STAGES = ("take the model", "take the change")
Stages = Mapping[str, StageFacts]


def training_steps(result: Result, stages: Stages) -> Iterator[Step]:
    """Data, base model and method of a result."""
    yield _data(result)
    yield _base(result, stages)
    yield _method(result, stages)


def _data(result: Result) -> Step:
    spec = result.spec
    settings = (record.settings for record in result.protocols.values())
    protocols = dict.fromkeys(str(part["data"]) for part in settings if "data" in part)
    texts = facts(
        options=options_text(spec.dataset_params),
        splits=", ".join(protocols),
        fingerprint=short_hash(result.provenance.get("dataset_fingerprint")),
        code=code_text(result, "datasets", spec.dataset),
    )
    return Step("Data", f"{spec.dataset}; D_f: {comma_list(spec.forget)}, D_g: the rest", texts)


def _base(result: Result, stages: Stages) -> Step:
    spec = result.spec
    checkpoint = mapping(result.provenance.get("base"))
    stage = next((stages[name] for name in BASE_STAGES if name in stages), None)
    network = facts(
        network=options_text(spec.backbone_params),
        code=code_text(result, "backbones", spec.backbone),
    )
    if checkpoint:
        summary = f"{spec.backbone} from the checkpoint {checkpoint.get('source')}"
        known = facts(
            sha256=short_hash(checkpoint.get("sha256")), remark=str(checkpoint.get("remark") or "")
        )
    elif stage is None:
        return Step("Base model", f"none: {spec.backbone} from fresh weights", network)
    else:
        summary = f"{spec.backbone}, trained from fresh weights, seed {spec.seeds.get('train', 0)}"
        known = facts(steps=_steps(result, stage))
    return Step("Base model", summary, (*network, *known, *stage_facts(stages, *BASE_STAGES)))


def _steps(result: Result, stage: StageFacts) -> str:
    """Steps and batch of the base model's training, where request or cache know them."""
    budget = mapping(stage.inputs.get("budget"))
    if budget:
        return f"{budget.get('steps')}, batches of {budget.get('batch_size')}"
    steps = result.spec.settings.get("steps")
    return f"{steps} (--steps)" if steps else f"those of the preset {result.spec.preset}"


def _method(result: Result, stages: Stages) -> Step:
    spec = result.spec
    if spec.regime == EXTERNAL:
        names = [name for name in TAKEN_STAGES if name in stages]
        summary = f"{spec.method}: a trained model was scored as it came"
        return Step("Method", summary, stage_facts(stages, *names))
    training = spec.settings.get("training", {})
    budget = training.get("passes")
    length = f"{budget} passes" if budget else f"{training.get('steps')} steps"
    names = [f"train {spec.method}", f"{RECORD}{spec.method}"]
    names += [name for name in stages if name.endswith(" items")]
    texts = facts(
        source=citation("methods", spec.method),
        options=options_text(spec.params),
        training=f"{length}, batches of {training.get('batch_size')}, "
        f"learning rate {training.get('learning_rate')}, seed {spec.seeds.get('unlearn', 0)}",
        not_preset=_departures(result),
        code=code_text(result, "methods", spec.method),
    )
    summary = f"{spec.method}, {spec.regime}, preset {spec.preset}"
    return Step("Method", summary, (*texts, *stage_facts(stages, *names)))


def _departures(result: Result) -> str:
    """Options of the run that are not its preset's."""
    spec = result.spec
    parts = {"methods": spec.method, "backbones": spec.backbone, "datasets": spec.dataset}
    if any(installed(kind, name) is None for kind, name in parts.items()):
        return "unknown, since a plugin of the run is not installed here"
    return options_text(departures(spec)) or "nothing: all options are the preset's"
