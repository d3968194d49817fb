"""Bad input: a clear message, the right exit code, and nothing written."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml
from cli_harness import TINY, only, tiny

USAGE = 2
pytestmark = pytest.mark.usefixtures("cache")


def without(option):
    """The tiny options without one of them."""
    place = TINY.index(option)
    return [*TINY[:place], *TINY[place + 2 :]]


def command(*arguments, method="obt"):
    """``run`` with later options on top of the tiny ones."""
    return [*tiny(method=method), *arguments]


def estimate(*arguments):
    """``info`` of a run on the mixture."""
    return ["info", "--dataset", "gaussians", "--backbone", "vesde", *arguments]


WRONG = [
    # unknown names
    (command("--dataset", "gausians"), "unknown dataset 'gausians' (did you mean 'gaussians'?)"),
    (command("--backbone", "vpsd"), "unknown backbone 'vpsd' (did you mean 'vpsde'?)"),
    (command(method="obd"), "unknown method 'obd' (did you mean 'obt'?)"),
    (command(method=("obt", "ortt")), "unknown method 'ortt' (did you mean 'ort'?)"),
    (command("--preset", "fulll"), "unknown preset 'fulll' (did you mean 'full'?)"),
    (command("-t", "generaton.nfe=3"), "unknown task 'generaton' (did you mean 'generation'?)"),
    (command("-t", "generation.sampler=huen"), "unknown sampler 'huen' (did you mean 'heun'?)"),
    (command("--executor", "slurmm"), "unknown executor 'slurmm'"),
    (command("--track", "wanbd"), "unknown tracker 'wanbd'"),
    (["rum", *TINY], "unknown command 'rum' (did you mean 'run'?)"),
    (["list", "methd"], "unknown kind 'methd' (did you mean 'method'?)"),
    (["info", "obtt"], "unknown plugin 'obtt' (did you mean 'obt'?)"),
    (command("--metod", "obt"), "--metod"),
    # what is to be forgotten
    (command("--forget", "midle"), "no class 'midle' to forget (did you mean 'middle'?)"),
    (command("--forget", "7"), "no class '7' to forget"),
    (
        ["info", "--dataset", "celeba", "--backbone", "vesde", "--forget", "bangz"],
        "no class 'bangz' to forget (did you mean 'bangs'?)",
    ),
    (command("--forget", "left,middle,right"), "leaves an empty split"),
    (command("--forget", "0,1,2"), "leaves an empty split"),
    (command("--forget", ","), "forgetting nothing leaves an empty split"),
    (command("--forget", " "), "forgetting nothing leaves an empty split"),
    # options out of range or unknown
    (command("-p", "alpha=1.5"), "option 'alpha' of obt = 1.5\nallowed: a number of at most 1"),
    (command("--seed", str(2**63)), "= 9223372036854775808"),
    (command("--samples", str(10**13)), "option 'samples' of the run = 10000000000000"),
    (command("-d", f"train_size={10**30}"), "option 'train_size' of gaussians"),
    (command("-p", "alpha=much"), "option 'alpha' of obt = 'much'"),
    (command("-p", "abort_norm=.inf"), "option 'abort_norm' of obt = '.inf'"),
    (command("-p", "alpha=.nan"), "option 'alpha' of obt = '.nan'"),
    (command("-p", "alpha=2024-01-01"), "option 'alpha' of obt = '2024-01-01'"),
    (command("-p", "sign=papper"), "option 'sign' of obt = 'papper'"),
    (command("-p", "alhpa=0.5"), "has an option 'alhpa' (did you mean 'alpha'?)"),
    (command("-p", "obt.alhpa=0.5"), "obt has no option 'alhpa' (did you mean 'alpha'?)"),
    (command("-p", "ort.alpha=0.5"), "option 'ort.alpha' is for 'ort', which is not among"),
    (command("-p", "alpha=0.5", method="standard"), "the selected methods have no options"),
    (command("-p", "alpha"), "'alpha' is not key=value"),
    (command("-p", "=3"), "'=3' is not key=value"),
    (command("-b", "widht=16"), "vesde has no option 'widht' (did you mean 'width'?)"),
    (command("-b", "width=3"), "option 'width' of vesde = 3"),
    (command("-b", "sigma_max=.inf"), "option 'sigma_max' of vesde = '.inf'"),
    (command("-d", "train_sise=500"), "gaussians has no option 'train_sise' (did you mean"),
    (command("-d", "train_size=3"), "option 'train_size' of gaussians = 3"),
    (command("-d", "train_size=2024-01-01"), "option 'train_size' of gaussians = '2024-01-01'"),
    (command("-t", "nfe=3"), "write TASK.key=value"),
    (command("-t", "generation.nfee=3"), "generation has no option 'nfee' (did you mean 'nfe'?)"),
    (command("-t", "generation.nfe=0"), "option 'nfe' of generation = 0"),
    (command("-m", "distance=l2"), "write METRIC.key=value"),
    (command("-m", "clp.distance=l2"), "unknown metric 'clp' (did you mean 'clip'?)"),
    (command("-m", "clip.distanse=l2"), "clip has no option 'distanse' (did you mean 'distance'?)"),
    (command("-m", "clip.distance=l3"), "option 'distance' of clip = 'l3'"),
    (command("-j", "name=bays"), "unknown judge 'bays' (did you mean 'bayes'?)"),
    (
        command("-j", "rejection_rat=0.1"),
        "bayes has no option 'rejection_rat' (did you mean 'rejection_rate'?)",
    ),
    (command("-j", "rejection_rate=2"), "option 'rejection_rate' of bayes = 2"),
    (command("--seed", "-1"), "Invalid value for '--seed'"),
    (command("--seed", "one"), "Invalid value for '--seed'"),
    (command("--steps", "0"), "Invalid value for '--steps'"),
    (command("--samples", "0"), "Invalid value for '--samples'"),
    (command("--device", "tpu"), "device 'tpu'"),
    (command("--device", "cuda:99"), "cuda:99"),
    (command("--precision", "fp8"), "'precision' of the run = 'fp8'"),
    # what does not go together
    (command("--regime", "retrain", method="finetune"), "'finetune' in the regime 'retrain'"),
    (command("--regime", "scratch"), "Invalid value for '--regime'"),
    (command("-b", "network=unet"), "a U-Net needs images"),
    (command("-t", "generation.sampler=pc", "-t", "generation.nfe=1"), "budget of 1 evaluations"),
    (command("-t", "likelihood.protocol=elbo"), "variational bound"),
    (command("--backbone", "ddpm", "-t", "likelihood.protocol=elbo"), "variational bound"),
    # what is missing
    (["run", *without("--dataset"), "--method", "obt"], "missing --dataset"),
    (["run", *without("--forget"), "--method", "obt"], "missing --forget"),
    (["run", *without("--backbone"), "--method", "obt"], "missing --backbone"),
    (["run", *TINY], "missing --method"),
    (["run"], "missing --dataset, --forget, --method, --backbone (or a SPEC_FILE)"),
    (["run", "no-such-file.yaml"], "no-such-file.yaml"),
    (["evaluate", "no-such-folder"], "no-such-folder"),
    (["evaluate", "."], "missing --dataset, --forget"),
    (["evaluate", ".", "--dataset", "gaussians", "--forget", "middle"], "no readable model.json"),
    # a file where a folder belongs
    (["evaluate", __file__, "--dataset", "gaussians"], "allowed: a run folder (with result.json"),
    (["export", __file__, "exported"], "allowed: a run folder, with result.json"),
    (["board", "build", __file__], "allowed: a folder with board.yaml"),
    (["board", "check", __file__], "allowed: a folder with board.yaml"),
    (["board", "build", ".", "--runs", __file__], "allowed: a folder of run folders"),
    (["info"], "missing NAME, or --dataset and --backbone"),
    (["info", "--preset", "paper"], "missing --dataset and --backbone"),
    (["info", "--dataset", "digits"], "missing --backbone"),
    (["info", "obt", "--dataset", "digits"], "NAME stands alone: leave out dataset"),
    (estimate("-p", "alpha=0.5"), "-p is for a method: name it with --method"),
    (estimate("--method", "obt", "-p", "alhpa=0.5"), "an option 'alhpa' (did you mean 'alpha'?)"),
    (estimate("--method", "obtt"), "unknown method 'obtt' (did you mean 'obt'?)"),
    (estimate("--backbone", "vpsd"), "unknown backbone 'vpsd' (did you mean 'vpsde'?)"),
    (estimate("--forget", "midle"), "no class 'midle' to forget (did you mean 'middle'?)"),
    (estimate("-j", "name=bays"), "unknown judge 'bays' (did you mean 'bayes'?)"),
    (estimate("-m", "nl.a=1"), "unknown metric 'nl' (did you mean 'nll'?)"),
    (["compare"], "Missing argument"),
    (["compare", "no-such-folder"], "no-such-folder"),
    (["compare", "."], "no result.json under ."),
    (["board", "build", "no-such-folder"], "no-such-folder"),
    (["board", "check"], "leaderboards"),
    (["completion", "tcsh"], "tcsh"),
    (["cache", "gc", "--older-than", "long"], "long"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[message for _, message in WRONG])
def test_wrong_requests(arguments, message, bench, tmp_path, cache):
    """Exit 2, what is wrong and what is allowed, no traceback, no file."""
    code, out, err = bench(*arguments)
    assert code == USAGE, err
    assert message in err
    assert "Traceback" not in out + err
    written = [path for path in tmp_path.rglob("*") if cache not in path.parents and path != cache]
    assert written == []
    assert not list(cache.glob("done/*"))


LONG = "x" * 5000


@pytest.mark.parametrize(
    "arguments",
    [
        [LONG],
        ["list", LONG],
        ["info", LONG],
        command("--dataset", LONG),
        command("--backbone", LONG),
        command(method=LONG),
        command("--preset", LONG),
        command("--forget", LONG),
        command("--executor", LONG),
        command("--track", LONG),
        command("-p", LONG),
        command("-p", f"{LONG}=1"),
        command("-p", f"obt.{LONG}=1"),
        command("-p", f"{LONG}.alpha=1"),
        command("-p", f"alpha={LONG}"),
        command("-b", f"{LONG}=1"),
        command("-d", f"{LONG}=1"),
        command("-t", f"{LONG}.nfe=1"),
        command("-t", f"generation.{LONG}=1"),
        command("-t", f"generation.sampler={LONG}"),
        command("-m", f"{LONG}.a=1"),
        command("-j", f"name={LONG}"),
        command("-x", f"{LONG}.a=1"),
        command("--device", LONG),
        command("--precision", LONG),
    ],
    ids=lambda arguments: "-".join(arguments[-2:]).replace(LONG, "long"),
)
def test_long_names_are_cut(arguments, bench):
    """A name of 5000 letters is an error of two short lines, not of 5000 letters."""
    code, _, err = bench(*arguments)
    assert code == USAGE
    assert max(map(len, err.splitlines())) < 1500
    assert LONG[:500] not in err


@pytest.mark.parametrize("arguments", [command(method="obd"), command("--dry-run", "-p", "a=1")])
def test_dry_runs_and_json_are_as_strict(arguments, bench):
    """Usage errors are the same with --json and --dry-run; standard output stays empty."""
    code, out, _ = bench(*arguments, "--json")
    assert (code, out) == (USAGE, "")


# spec.yaml ---------------------------------------------------------------------------------


SPEC = {"dataset": "gaussians", "forget": ["middle"], "backbone": "vesde", "method": "obt"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dataset: [", "is not valid YAML"),
        ("\x00\x01", "is not valid YAML"),
        ("- a\n- b", "holds list"),
        ("", "holds NoneType"),
        (yaml.safe_dump(SPEC | {"metod": "obt"}), "no option 'metod' (did you mean 'method'?)"),
        (yaml.safe_dump(SPEC | {"forget": {"a": 1}}), "'forget' of the run"),
        (yaml.safe_dump(SPEC | {"seed": "one"}), "'seed' of the run = 'one'"),
        (yaml.safe_dump(SPEC | {"preset": "qick"}), "unknown preset 'qick'"),
        (yaml.safe_dump(SPEC | {"params": {"alpha": 7}}), "option 'alpha' of obt = 7"),
        (yaml.safe_dump({"dataset": "gaussians"}), "the run lacks the option"),
    ],
)
def test_wrong_spec_files(text, message, bench, tmp_path):
    """A file that is no request is a usage error, whatever is wrong with it."""
    (tmp_path / "spec.yaml").write_text(text, encoding="utf-8")
    code, _, err = bench("run", "spec.yaml")
    assert code == USAGE
    assert message in err
    assert not (tmp_path / "runs").exists()


def test_a_spec_file_says_it_all(bench, tmp_path):
    """Options beside SPEC_FILE would be ignored, and are refused."""
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(SPEC))
    code, _, err = bench("run", "spec.yaml", "--seed", "3", "-p", "alpha=0.5")
    assert code == USAGE
    assert "SPEC_FILE describes the run: leave out params, seeds" in err


# Models from elsewhere ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The model/ folder of a tiny run."""
    from msgm_bench.cli.main import call

    place = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MSGM_BENCH_CACHE", str(place / "cache"))
        assert call(tiny(out=place / "runs")) == 0
    (folder,) = (place / "runs").glob("*/model")
    return folder


GAUSSIANS = ("--dataset", "gaussians", "--forget", "middle", "-d", "train_size=500")


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (lambda card: card.pop("format"), 2, "has the format None"),
        (lambda card: card.pop("backbone"), 2, "lacks backbone"),
        (lambda card: card.update(backbone="vesd"), 2, "unknown backbone 'vesd'"),
        (lambda card: card["options"].update(width=18), 2, "of another network"),
        (lambda card: card["options"].update(size=1), 2, "has no option 'size'"),
    ],
)
def test_wrong_cards(change, code, message, trained, bench, tmp_path):
    """A card that does not describe the weights is refused before anything is drawn."""
    shutil.copytree(trained, tmp_path / "model")
    path = tmp_path / "model" / "model.json"
    card = json.loads(path.read_text())
    change(card)
    path.write_text(json.dumps(card))
    exit_code, _, err = bench("evaluate", "model", *GAUSSIANS, "--samples", "16")
    assert exit_code == code
    assert message in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("damage", [b"", b"no weights", None])
def test_damaged_weights(damage, trained, bench, tmp_path):
    """Weights that are damaged or missing: exit 1, and which file."""
    shutil.copytree(trained, tmp_path / "model")
    path = tmp_path / "model" / "weights.safetensors"
    path.unlink() if damage is None else path.write_bytes(damage)
    code, _, err = bench("evaluate", "model", *GAUSSIANS, "--samples", "16")
    assert code == 1
    assert "weights.safetensors cannot be read" in err
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("text", ["[]", "3", "null", '"model"'])
def test_cards_that_are_no_mappings(text, trained, bench, tmp_path):
    """JSON that is no object is no card."""
    shutil.copytree(trained, tmp_path / "model")
    (tmp_path / "model" / "model.json").write_text(text)
    code, _, err = bench("evaluate", "model", *GAUSSIANS)
    assert code == USAGE
    assert "has the format" in err


def test_a_model_of_other_items(trained, bench, tmp_path):
    """A model of points cannot be scored on images."""
    code, _, err = bench("evaluate", trained, "--dataset", "digits", "--forget", "3,7")
    assert code == USAGE
    assert "makes items of shape (2,)" in err
    assert not (tmp_path / "runs").exists()


def test_a_model_keeps_its_own_process(trained, bench, tmp_path, fast):
    """On data of another spread the model is still the one that was trained."""
    arguments = ("--dataset", "gaussians", "--forget", "middle", "--samples", "16")
    loose = ("-t", "likelihood.rtol=1e-2", "-t", "likelihood.atol=1e-2")
    for size in (500, 700):
        data = ("-d", f"train_size={size}", "-d", "test_size=500")
        code, _, err = bench("evaluate", trained, *arguments, *data, *loose, "--out", str(size))
        assert code == 0, err
    first, second = only(tmp_path / "500"), only(tmp_path / "700")
    assert first["metrics"] == second["metrics"], "training data plays no part in an evaluation"
    cards = [next((tmp_path / name).rglob("model.json")).read_text() for name in ("500", "700")]
    assert cards[0] == cards[1] == (trained / "model.json").read_text()
