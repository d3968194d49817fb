"""Cells that start from a base model of another program, and models written for other programs."""

from __future__ import annotations

import hashlib
import json
import shutil

import hub_layout
import pytest
import torch
import yaml
from cli_harness import draw_nothing, results
from hub_layout import BETAS, CARD, SAFE, SCHEDULE, STEPS, edit, write_flat, write_pipeline
from lazy import LazyModule

from msgm_bench import IncompatibleError, MsgmBenchError, Result, RunSpec
from msgm_bench.boards import compare
from msgm_bench.boards.board import Board, RunConditions
from msgm_bench.boards.collect import mismatch
from msgm_bench.cache.cache import Cache
from msgm_bench.cli.main import call
from msgm_bench.errors import StorageError
from msgm_bench.estimate.run_estimate import estimate_run
from msgm_bench.execution import archive_other_base, run_stage
from msgm_bench.experiment.graph import build_graph
from msgm_bench.experiment.model_io import load_model
from msgm_bench.experiment.plan import resolve
from msgm_bench.experiment.pretrained import check_origin
from msgm_bench.registry import registry
from msgm_bench.report import run_folder
from msgm_bench.report.export import export
from msgm_bench.runner import dry_run

diffusers = LazyModule("diffusers")

PLUGINS = ",".join(
    [
        *("datasets.digits", "datasets.gaussians", "backbones.*", "samplers.*", "methods.*"),
        *("tasks.generation", "judges.classifier", "judges.bayes", "metrics.unlearning_ratio"),
    ]
)
GRID = (*("-b", f"steps={STEPS}"), *(w for k, v in BETAS.items() for w in ("-b", f"{k}={v}")))
CELL = (
    *("--dataset", "digits", "--forget", "3", "--backbone", "ddpm", *GRID),
    *("--steps", "2", "--samples", "8", "-t", "generation.nfe=4", "-j", "steps=2"),
)
RUN = ("run", *CELL, "--method", "standard", "--method", "finetune", "--method", "unseen")
CPU = torch.device("cpu")


def spec(base, method="finetune", forget="3", **fields):
    """The request of the command above."""
    return RunSpec(
        dataset="digits",
        forget=forget,
        backbone="ddpm",
        backbone_params={"steps": STEPS, **BETAS},
        method=method,
        base=str(base),
        steps=2,
        samples=8,
        task_params={"generation": {"nfe": 4}},
        **fields,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a base, the runs that started from it, their cache, and an export."""
    place = tmp_path_factory.mktemp("bases")
    write_flat(place / "base")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MSGM_BENCH_CACHE", str(place / "cache"))
        patch.setenv("MSGM_BENCH_PLUGINS", PLUGINS)
        patch.setattr(run_folder, "_draw_pictures", draw_nothing)
        registry.cache_clear()
        run = (*RUN, "--base", str(place / "base"), "--out", str(place / "runs"))
        assert call(run) == 0
        assert call(["export", str(run_of(place, "finetune")), str(place / "exported")]) == 0
    registry.cache_clear()
    return place


@pytest.fixture(autouse=True)
def _plugins(made, monkeypatch, new_registry):
    """Few plugins, and the cache of those runs."""
    monkeypatch.setenv("MSGM_BENCH_CACHE", str(made / "cache"))
    monkeypatch.setenv("MSGM_BENCH_PLUGINS", PLUGINS)
    monkeypatch.setattr(run_folder, "_draw_pictures", draw_nothing)
    new_registry.cache_clear()


def run_of(made, method):
    """The run folder of a method."""
    (folder,) = (made / "runs").glob(f"*-{method}-*")
    return folder


def sha256(folder):
    """Of the weights in a folder."""
    return hashlib.sha256((folder / SAFE).read_bytes()).hexdigest()


# Starting from a base ----------------------------------------------------------------------


def test_results_name_the_base_by_its_hash(made):
    """Spec, provenance, command and report of every run; regimes as they were."""
    found, mine = results(made / "runs"), sha256(made / "base")
    regimes = {method: result["spec"]["regime"] for (method, _), result in found.items()}
    assert regimes == {"standard": "external", "finetune": "finetune", "unseen": "retrain"}
    for (method, _), result in found.items():
        assert result["spec"]["base"] == mine
        given = result["provenance"]["base"]
        assert given == {"source": str(made / "base"), "sha256": mine, "remark": ""}
        assert f"--base {made / 'base'} " in result["provenance"]["command"]
        report = (run_of(made, method) / "report.md").read_text("utf-8")
        assert ("evaluated unchanged" in report) == (method == "standard")
        assert mine in report
    told = yaml.safe_load((run_of(made, "finetune") / "spec.yaml").read_text("utf-8"))
    assert told["base"] == str(made / "base")


def test_standard_is_the_very_base(made):
    """Its model is the base bit for bit; no stage trained it."""
    model = load_model(run_of(made, "standard") / "model", CPU)
    state = hub_layout.network().state_dict()
    found = model.network.unet.state_dict()
    assert set(found) == set(state)
    assert all(torch.equal(found[name], state[name]) for name in state)
    (result,) = [r for (m, _), r in results(made / "runs").items() if m == "standard"]
    assert "take the base" in result["provenance"]["stages"]
    assert not any(name.startswith("train") for name in result["provenance"]["stages"])


def test_fine_tuning_starts_from_the_base_and_retraining_does_not(made):
    """Two steps with averaged weights lead a little way from the base, and from new weights."""
    base = hub_layout.network().state_dict()["conv_out.weight"]
    away = {}
    for method in ("finetune", "unseen"):
        model = load_model(run_of(made, method) / "model", CPU)
        weight = model.network.state_dict()["unet.conv_out.weight"]
        away[method] = float((weight - base).norm() / base.norm())
    assert 0 < away["finetune"] < 0.01
    assert away["unseen"] > 0.1


def test_stages_depend_on_the_weights_and_not_on_the_path(made, tmp_path):
    """A copy elsewhere has the same keys; other weights have others, down to the rows."""
    here = build_graph(resolve(spec(made / "base")))
    shutil.copytree(made / "base", tmp_path / "copy")
    copy = build_graph(resolve(spec(tmp_path / "copy")))
    assert {n: s.key for n, s in here.stages.items()} == {n: s.key for n, s in copy.stages.items()}
    unet = hub_layout.network()
    with torch.no_grad():
        unet.conv_out.bias.add_(1e-3)
    unet.save_pretrained(tmp_path / "copy")
    other = build_graph(resolve(spec(tmp_path / "copy")))
    differing = {name for name, stage in here.stages.items() if stage.key != other.stages[name].key}
    shared = {"fit judge classifier"}
    assert differing == set(here.stages) - shared
    retrained = [
        build_graph(resolve(spec(b, "unseen"))) for b in (made / "base", tmp_path / "copy")
    ]
    assert retrained[0].model.key == retrained[1].model.key


def test_weights_that_change_in_between_stop_the_run(made, tmp_path, cache):
    """What was planned is what is taken, or nothing."""
    shutil.copytree(made / "base", tmp_path / "base")
    stage = build_graph(resolve(spec(tmp_path / "base"))).base
    unet = hub_layout.network()
    with torch.no_grad():
        unet.conv_out.bias.add_(1)
    unet.save_pretrained(tmp_path / "base")
    with pytest.raises(StorageError, match="have changed since the run began"):
        run_stage(stage, Cache(), {})


def test_dry_run_and_estimate_show_the_base(made, bench):
    """Folder and hash; the stage that takes it, and none that trains it; nothing is computed."""
    code, out, _ = bench(*RUN, "--base", made / "base", "--dry-run")
    assert code == 0
    assert f"sha256{sha256(made / 'base')};nottrainedhere" in "".join(out.split())
    assert "take the base" in out
    assert "train standard" not in out
    preview = dry_run(spec(made / "base"))
    assert preview.base == f"{made / 'base'}, sha256 {sha256(made / 'base')}"
    estimate = estimate_run(spec(made / "base", method=""), measure=False)
    assert estimate.base == preview.base
    assert {
        training.regime for training in estimate.training if "finetune" in training.methods
    } == {"finetune"}
    assert not any(training.base for training in estimate.training)


def test_the_regime_is_fine_tuning(made):
    """It is the default beside a base, and retraining, which would not look at it, is refused."""
    assert resolve(spec(made / "base", "obt")).training.regime == "finetune"
    with pytest.raises(IncompatibleError, match="'retrain' from a given base"):
        resolve(spec(made / "base", "obt", regime="retrain"))


def test_boards_and_tables_keep_bases_apart(made):
    """A board takes results of its own base only; tables put each base into a cell of its own."""
    document = json.loads((run_of(made, "finetune") / "result.json").read_text("utf-8"))
    mine = Result.model_validate(document)
    told = mine.spec.model_dump(include=set(RunConditions.model_fields))
    page = {"metric": "ur", "split": "samples"}
    board = Board.model_validate(
        {
            **{"title": "Base", "summary": "A base.", "run": told, "seeds": 1, "rank": page},
            **{"methods": ["finetune", "unseen"], "columns": [page], "commands": ["run"]},
            "gate": {"reference": "unseen", "limits": [page | {"within": 1}]},
            "baseline": {"method": "unseen", "bands": [page | {"low": 0, "high": 1}]},
        }
    )
    assert mismatch(board, mine) is None
    for base in (None, "0" * 64):
        spec = mine.spec.model_copy(update={"base": base})
        other = mine.model_copy(update={"spec": spec})
        assert "its base model is" in mismatch(board, other)
        assert len(set(compare([mine, other])["backbone"])) == 2


# A run as a base ---------------------------------------------------------------------------


def test_a_run_folder_is_a_base(made):
    """RUN and RUN/model are the run's model, with the hash of its weights, bit for bit."""
    run = run_of(made, "standard")
    mine = hashlib.sha256((run / "model" / "weights.safetensors").read_bytes()).hexdigest()
    for place in (run, run / "model"):
        there = resolve(spec(place))
        assert there.base.sha256 == mine
        again = load_model(run_stage(build_graph(there).base, Cache(), {}).path, CPU)
        state = load_model(run / "model", CPU).network.state_dict()
        assert all(torch.equal(again.network.state_dict()[k], v) for k, v in state.items())


def test_a_run_that_forgot_is_no_base_for_forgetting_the_same(made):
    """Its result says what it was made without."""
    for place in (run_of(made, "finetune"), run_of(made, "finetune") / "model"):
        with pytest.raises(IncompatibleError, match=r"--forget 3 .*made without it"):
            resolve(spec(place))
        assert resolve(spec(place, forget="5")).base is not None


def test_classes_that_differ_in_case_are_two(tmp_path):
    """A model that was made without A knows a."""
    (tmp_path / "origin.json").write_text('{"dataset": "image_folder", "without": ["A"]}')
    check_origin(tmp_path, "image_folder", ["a", "B"])
    with pytest.raises(IncompatibleError, match=r"--forget A .*made without it"):
        check_origin(tmp_path, "image_folder", ["a", "A"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not valid JSON"),
        ("[]", "a JSON object"),
        ('{"dataset": "digits"}', "lacks without"),
        ('{"dataset": "digits", "without": "3"}', "without = '3'"),
        ('{"dataset": "digits", "without": [3]}', "without.0 = 3"),
        ('{"dataset": "digits", "without": [], "x": 1}', "x = 1 is not understood"),
    ],
)
def test_an_origin_that_cannot_be_read_is_no_trust(made, tmp_path, text, said):
    """What a model was made without is known, or the folder is refused; it is never guessed."""
    shutil.copytree(made / "base", tmp_path / "base")
    (tmp_path / "base" / "origin.json").write_text(text)
    with pytest.raises(MsgmBenchError) as caught:
        resolve(spec(tmp_path / "base"))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"backbone": "vpsde", "backbone_params": {}}, "choose --backbone ddpm"),
        (
            {"backbone_params": {"steps": STEPS, "beta_start": 0.02, "beta_end": 0.3}},
            "options (-b)",
        ),
        ({"conditional": True}, "classes = None"),
    ],
)
def test_a_run_that_does_not_fit_is_no_base(made, fields, said):
    """Another backbone, another process, another track: refused with what to do."""
    request = spec(run_of(made, "standard")).model_copy(update=fields)
    with pytest.raises(IncompatibleError) as caught:
        resolve(request)
    assert said in str(caught.value)


def test_evaluate_takes_a_run(made, bench, tmp_path):
    """The run folder stands for the model in it."""
    command = ("--dataset", "digits", "--forget", "3", "--samples", "8", "-t", "generation.nfe=4")
    outs = []
    for place in (run_of(made, "standard"), run_of(made, "standard") / "model"):
        code, out, err = bench(
            "evaluate", place, *command, "--json", "--out", tmp_path / place.name
        )
        assert code == 0, err
        outs.append([row["value"] for row in json.loads(out)["metrics"]])
    assert outs[0] == outs[1]


# Bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--base", "nowhere/at/all"), "nowhere/at/all is no folder"),
        (("--conditional",), "num_class_embeds 11"),
        (("--dataset", "gaussians", "--forget", "middle"), "needs images"),
        (("-b", "beta_end=0.2"), "-b steps=20 -b beta_start=0.01 -b beta_end=0.3"),
        (("-b", "channels=[8,8]"), "leave out -b channels"),
        (("-b", "network=mlp"), "leave out -b network"),
        (("--method", "obt", "--regime", "retrain"), "from a given base"),
    ],
)
def test_what_does_not_fit_stops_before_training(made, bench, tmp_path, arguments, said):
    """Exit 2, the reason, and neither a stage nor a run folder."""
    done = len(list((made / "cache" / "done").iterdir()))
    command = ("run", *CELL, "--base", made / "base", "--method", "finetune", *arguments)
    code, _, err = bench(*command, "--out", tmp_path / "runs")
    assert code == 2
    assert said in err
    assert not (tmp_path / "runs").exists()
    assert len(list((made / "cache" / "done").iterdir())) == done


# Writing -----------------------------------------------------------------------------------


def test_an_export_is_a_pipeline_with_a_card(made):
    """diffusers loads and samples; the card tells what it is and what was measured."""
    place, run = made / "exported", run_of(made, "finetune")
    pipeline = diffusers.DDPMPipeline.from_pretrained(place)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline(num_inference_steps=STEPS, output_type="np").images.shape == (1, 8, 8, 1)
    card = (place / "README.md").read_text("utf-8")
    row = json.loads((run / "result.json").read_text("utf-8"))["metrics"][0]
    for said in (
        *("`finetune`", "`digits`", "Forgotten: 3", f"`{run.name}`", f"| {row['metric']} |"),
        *(sha256(made / "base"), sha256(place / "unet"), "decay 0.9", "DDPMPipeline"),
    ):
        assert said in card
    assert str(made / "cache") not in card
    assert sorted(p.name for p in made.iterdir()) == ["base", "cache", "exported", "runs"]


def test_the_card_of_the_base_itself_says_that_nothing_is_forgotten(made, bench, tmp_path):
    """standard is trained on all data, whatever its run is to forget; its export forgets later."""
    assert bench("export", run_of(made, "standard"), tmp_path / "whole")[0] == 0
    card = (tmp_path / "whole" / "README.md").read_text("utf-8")
    assert "Forgotten: nothing" in card
    (title,) = [line for line in card.splitlines() if line.startswith("# ")]
    assert "without" not in title
    assert resolve(spec(tmp_path / "whole")).base is not None


def test_what_the_base_was_made_without_cannot_be_forgotten(made):
    """An exported model that unlearned the 3 is no base for unlearning the 3."""
    for forget in ("3", "5, 3"):  # as typed, the second is one text
        with pytest.raises(IncompatibleError, match=r"--forget 3 .*made without it"):
            resolve(spec(made / "exported", forget=forget))


def test_the_run_of_another_base_at_the_same_path_is_kept(made, tmp_path):
    """Its folder makes room under a name with its own base's hash, however often bases change."""
    target = tmp_path / "run"
    for _ in range(2):
        shutil.copytree(run_of(made, "finetune"), target)
        archive_other_base(target, sha256(made / "base"))
        assert target.exists()
        archive_other_base(target, "f" * 64)
        assert [path.name for path in tmp_path.iterdir()] == [f"run-{sha256(made / 'base')[:8]}"]


def test_an_export_is_a_base(made):
    """--base of it is the same function with the same weights, under the hash that was said."""
    there = resolve(spec(made / "exported", forget="5"))
    assert there.base.sha256 == sha256(made / "exported" / "unet")
    stage = build_graph(there).base
    again = load_model(run_stage(stage, Cache(), {}).path, CPU)
    model = load_model(run_of(made, "finetune") / "model", CPU)
    x, t = torch.randn(5, 1, 8, 8), torch.arange(1, 6) / STEPS
    with torch.no_grad():
        assert torch.equal(again.eps(x, t), model.eps(x, t))


def test_an_export_replaces_only_when_told(made, bench, tmp_path):
    """What is not empty stays as it is without --force, and is replaced as a whole with it."""
    run, place = run_of(made, "finetune"), tmp_path / "out" / "put"
    place.mkdir(parents=True)
    assert bench("export", run, place)[0] == 0
    (place / "mine").touch()
    before = (place / "README.md").stat().st_mtime_ns
    code, _, err = bench("export", run, place)
    assert (code, "is not empty" in err, "--force" in err) == (2, True, True)
    assert (place / "README.md").stat().st_mtime_ns == before
    assert bench("export", run, place, "--force")[0] == 0
    assert not (place / "mine").exists()
    assert [path.name for path in place.parent.iterdir()] == ["put"]


@pytest.mark.parametrize("where", ["run", "runs", "here", "file"])
def test_an_export_spares_what_it_must(made, bench, tmp_path, where):
    """Neither the run, nor what holds it, nor the current folder is replaced, nor a file."""
    run = run_of(made, "finetune")
    (tmp_path / "file").touch()
    place = {"run": run, "runs": run.parent, "here": tmp_path, "file": tmp_path / "file"}[where]
    assert bench("export", run, place, "--force")[0] == 2
    assert (run / "result.json").exists()
    assert (tmp_path / "file").exists()


def test_an_export_that_fails_leaves_nothing(made, bench, tmp_path, monkeypatch):
    """No model, a damaged result, a network that diffusers lacks, a full disk."""
    (tmp_path / "empty").mkdir()
    assert "model.json" in bench("export", "empty", "out")[2]
    shutil.copytree(run_of(made, "finetune"), tmp_path / "run")
    edit(tmp_path / "run" / "model" / "model.json", _as_mlp)
    assert bench("export", "run", "out")[0] == 2
    (tmp_path / "run" / "result.json").write_text("{")
    code, _, err = bench("export", "run", "out")
    assert (code, "cannot be read as a result" in err) == (1, True)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("msgm_bench.report.export.model_card", full)
    with pytest.raises(StorageError, match="No space left"):
        export(run_of(made, "finetune"), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "run"]


def _as_mlp(card):
    return card | {"options": card["options"] | {"network": "mlp"}}


def test_a_conditional_base(made, tmp_path):
    """Ten classes and the null class fit a conditional run, whose board is another one."""
    write_pipeline(tmp_path / "told", num_class_embeds=11)
    assert (tmp_path / "told" / "unet" / CARD).is_file()
    assert (tmp_path / "told" / "scheduler" / SCHEDULE).is_file()
    there = resolve(spec(tmp_path / "told", conditional=True))
    assert there.loaded.stats.classes == 10
    assert there.base.sha256 == sha256(tmp_path / "told" / "unet")
    with pytest.raises(IncompatibleError, match="11 class embeddings"):
        resolve(spec(tmp_path / "told"))
