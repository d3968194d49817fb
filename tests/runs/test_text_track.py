"""The text track: what a request of --text needs, and where it shows."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from msgm_bench import Data, DataStats, Examples, IncompatibleError, OptionError, RunSpec
from msgm_bench.api import PROMPT_GROUPS, Prompt, PromptBook
from msgm_bench.api.result import Result, SpecRecord
from msgm_bench.experiment.components import stats_for
from msgm_bench.experiment.model_io import check_model
from msgm_bench.experiment.spec import parse_spec
from msgm_bench.registry import registry
from msgm_bench.report.provenance import rerun_command
from msgm_bench.testing import ToyBackbone

FIELDS = {"dataset": "scenes", "forget": ["circle"], "backbone": "toy_text", "method": "obt"}
PLAIN = RunSpec(**FIELDS)
SPEC = RunSpec(**FIELDS, text=True)
BOOK = PromptBook(
    ("circle", "ring"),
    (Prompt("a circle", (0,), "target", 0), Prompt("a ring", (1,), "target", 1)),
    words=("a", "circle", "ring"),
)


class TextBackbone(ToyBackbone):
    """Takes prompts."""

    name = "toy_text"
    conditional = False
    text = True


def data(prompts=BOOK):
    """Two empty images of a concept each."""
    items = Examples(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.eye(2, dtype=torch.bool))
    return Data(items, items, BOOK.concepts, levels=16, prompts=prompts)


def test_the_backbone_knows_the_prompts_and_the_words():
    """Texts in the order of the book, and the words of its language; other statistics stay."""
    stats = DataStats.of(data())
    wanted = replace(stats, prompts=("a circle", "a ring"), words=("a", "circle", "ring"))
    assert stats_for(SPEC, data(), stats, TextBackbone) == wanted


def test_data_without_prompts_are_refused():
    """The hint leaves the track."""
    plain = data(None)
    with pytest.raises(IncompatibleError, match="'scenes', which has no prompts") as caught:
        stats_for(SPEC, plain, DataStats.of(plain), TextBackbone)
    assert caught.value.hint == "leave out --text"


def test_a_backbone_that_takes_no_prompt_is_refused():
    """A network that would ignore the prompt is not trained as if it did not."""
    with pytest.raises(IncompatibleError, match="backbones whose networks take a prompt") as caught:
        stats_for(SPEC, data(), DataStats.of(data()), ToyBackbone)
    assert "leave out --text" in caught.value.hint


def test_a_backbone_of_prompts_needs_the_track():
    """Its networks take nothing but prompts."""
    with pytest.raises(IncompatibleError, match="'toy_text' without --text") as caught:
        stats_for(PLAIN, data(), DataStats.of(data()), TextBackbone)
    assert "add --text" in caught.value.hint


def test_a_model_takes_a_class_or_a_prompt(bench):
    """Both flags are an error of the command line, of Python and of a stored result."""
    with pytest.raises(OptionError, match="a class or a prompt"):
        parse_spec({**FIELDS, "conditional": True, "text": True})
    record = {**FIELDS, "params": {}, "regime": "finetune", "preset": "quick", "seed": 0}
    with pytest.raises(ValueError, match="a class or a prompt"):
        SpecRecord(**record, conditional=True, text=True)
    options = ("--dataset", "digits", "--forget", "3", "--backbone", "ddpm", "--method", "obt")
    code, _, err = bench("run", *options, "--conditional", "--text")
    assert code == 2
    assert "a class or a prompt" in err


@pytest.mark.parametrize(("spec", "suffix", "flag"), [(SPEC, "-text", True), (PLAIN, "", False)])
def test_folder_and_command_name_the_track(spec, suffix, flag):
    """``toy_text-text`` in the folder, ``--text`` in the command; neither on another track."""
    assert f"-toy_text{suffix}-obt-" in spec.folder
    assert ("--text" in rerun_command(spec).split()) is flag
    assert "--text" not in rerun_command(spec.model_copy(update={"model": "runs/x/model"}))


def test_the_digest_of_other_tracks_needs_no_text():
    """A result without the field has the digest that it has with ``text: false``, and not true."""
    record = {**FIELDS, "params": {}, "regime": "finetune", "preset": "quick", "seed": 0}
    whole = Result(status="ok", spec=SpecRecord(**record))
    document = whole.model_dump(mode="json", by_alias=True)
    del document["spec"]["text"]
    assert Result.model_validate(document) == whole
    assert Result(status="ok", spec=SpecRecord(**record, text=True)).digest != whole.digest


def test_a_model_of_another_track_is_refused(monkeypatch, tmp_path):
    """A model of prompts stands for none that takes no condition, and the other way round."""
    stats = {True: replace(DataStats.of(data()), prompts=BOOK.texts), False: DataStats.of(data())}
    for text, message in (
        (True, "takes a prompt, and the run needs one that takes no class"),
        (False, "takes no class, and the run needs one that takes a prompt"),
    ):
        card = SimpleNamespace(stats=lambda own=stats[text]: own, part=None)
        monkeypatch.setattr("msgm_bench.experiment.model_io.read_card", lambda folder, c=card: c)
        with pytest.raises(IncompatibleError, match=message):
            check_model(tmp_path, stats[not text])


def test_info_counts_the_prompts_of_each_group(bench):
    """Of the whole book without --forget; with it, kept concepts serve as neighbours."""
    options = ("info", "--dataset", "scenes", "--backbone", "vpsde", "--no-measure", "--json")
    book = registry().create("datasets", "scenes").load().prompts
    _, out, _ = bench(*options)
    counts = {group: sum(p.group == group for p in book) for group in PROMPT_GROUPS}
    assert json.loads(out)["data"]["prompts"] == {k: n for k, n in counts.items() if n}
    _, out, _ = bench(*options, "--forget", "circle")
    prompts = json.loads(out)["data"]["prompts"]
    groups = book.groups(registry().create("datasets", "scenes").load().targets(["circle"]))
    assert prompts.pop("train") == counts["train"]
    assert prompts == {group: len(rows) for group, rows in groups.items() if rows}


def test_data_check_shows_concepts_and_prompts(bench):
    """Numbers of items of each concept, an example of each group, and the domains."""
    code, out, _ = bench("data", "check", "scenes")
    assert code == 0
    assert "concept" in out
    assert "implicit   28       a tomato" in out
    assert "domain shape: circle, ring, square, bar, triangle, cross" in out
