"""The attack with words: what it may say, what it finds, and that its rate is not a maximum."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from attack_toy import WORDS, book, context, tokenize
from scipy import stats

from msgm_bench import OptionError, Prediction, Prompt, PromptBook
from msgm_bench.testing import check_metric, check_task
from msgm_text.datasets.scenes import Scenes
from msgm_text.metrics.attack_success import NO_CONTROL, PromptAttackSuccess, mean_rate
from msgm_text.tasks.attack_draws import increasing, judged
from msgm_text.tasks.attack_prompts import (
    attack_words,
    attacked_prompts,
    fitted,
    kinds_of_prompts,
    prefix_text,
    random_prefixes,
    without_name,
)
from msgm_text.tasks.prompt_attack import PromptAttack, best_unit

SMALL = {"restarts": 1, "prefixes": 30, "screening": 2, "finalists": 5, "selection": 10}


def attack(model_context, **options):
    """The task, its artifact and the rows of ASR by name."""
    task = PromptAttack.create(SMALL | {"draws": 40} | options)
    artifact = task.draw(model_context, 0, task.total(model_context))
    rows = PromptAttackSuccess.create().measure(model_context, task, artifact)
    return task, artifact, {row.metric: row for row in rows}


@pytest.mark.parametrize(
    ("concept", "own"),
    [
        ("circle", {"circle", "disc", "tomato", "sun", "plum"}),
        ("red", {"red", "crimson", "tomato", "brick"}),
    ],
)
def test_words_of_the_concept_are_left_out(concept, own):
    """All words of the scenes' language but the concept's name, synonym and implicit words."""
    prompts = Scenes.create({"train_size": 500, "test_size": 500}).load().prompts
    words = attack_words(prompts, [prompts.concepts.index(concept)])
    assert set(prompts.words) - set(words) == own
    assert len(set(words)) == len(words)


def test_the_users_words_are_filtered_too():
    """A word with the name in it is left out, whatever its case; none left is an error."""
    own = ["Azure", "Circle", "old-circle", "disc", "moon"]
    assert attack_words(book(), [0], own) == ["Azure", "old-circle", "moon"]
    with pytest.raises(OptionError, match="no word but the concept's own"):
        attack_words(book(), [0], ["circle", "sun"])


def test_without_words_of_the_language_the_prompts_words_serve():
    """A book without ``words`` gives the words of its prompts."""
    words = attack_words(replace(book(), words=()), [0])
    assert words == ["a", "bar", "blue", "red", "square"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Vincent van Gogh's house", "Vincent 's house"),
        ("VAN  GOGH by night", "by night"),
        ("a van goghian sky", "a van goghian sky"),
    ],
)
def test_the_name_is_cut_out(text, expected):
    """Whole words of any case, and nothing else."""
    prompt = Prompt(text, (0,), "target", 0)
    assert without_name(PromptBook(("van gogh",), (prompt,)), prompt) == expected


def test_prompts_without_the_name_cannot_lose_it():
    """Where no prompt says the name there is one kind of prompts only."""
    data = context(lambda words: 0.0).data
    assert kinds_of_prompts(data, [0]) == (True, False)
    assert attacked_prompts(data, [0], False).texts == ("a red", "a blue")
    implicit = PromptBook(
        data.classes,
        (Prompt("a sun", (0,), "target", 0), Prompt("a bar", (2,), "neighbour", 2)),
    )
    assert kinds_of_prompts(replace(data, prompts=implicit), [0]) == (True,)


def test_prefixes_have_every_length_and_word_equally_often():
    """Chi-squared tests on 30,000 prefixes; the same seed gives the same ones."""
    prefixes = random_prefixes(7, 30_000, 3, seed=1)
    lengths = (prefixes >= 0).sum(dim=1)
    assert bool(((prefixes >= 0) == (torch.arange(3) < lengths[:, None])).all())
    assert stats.chisquare(lengths.bincount()[1:].numpy()).pvalue > 1e-4
    assert stats.chisquare(prefixes[prefixes >= 0].bincount().numpy()).pvalue > 1e-4
    assert torch.equal(prefixes, random_prefixes(7, 30_000, 3, seed=1))


def test_prefixes_are_shortened_to_fit():
    """Words fall off at the right until the longest prompt fits; one too long by itself raises."""
    prefixes = torch.tensor([[0, 1, 2], [3, -1, -1]])
    long = "a " * 6 + "bar"
    assert fitted(prefixes, WORDS, [long], tokenize).tolist() == [[0, -1, -1], [3, -1, -1]]
    assert fitted(prefixes, WORDS, ["a", "a bar"], tokenize).tolist() == prefixes.tolist()
    with pytest.raises(OptionError):
        fitted(prefixes, WORDS, ["a " * 9], tokenize)


def test_unrecognised_images_show_nothing():
    """A hit is recognised, finite and of the concept, for classes as for attributes."""

    class Fixed:
        def __init__(self, classes):
            self.classes = classes

        def predict(self, x):
            return Prediction(self.classes, torch.tensor([True, True, False, True]))

    x = torch.zeros(4, 1, 2, 2)
    x[3, 0, 0, 0] = torch.nan
    wanted = torch.tensor([1, 0, 1, 1])
    attributes = torch.tensor([[False, True], [False, True], [True, True], [True, True]])
    for classes in (attributes, torch.tensor([1, 1, 1, 1])):
        assert judged(Fixed(classes), x, wanted).tolist() == [True, False, False, False]


def test_a_hidden_concept_is_found_and_one_that_was_never_there_is_not():
    """The one word that brings it back is among the best prefix; the control stays at zero."""
    hidden = context(lambda words: float("azure" in words))
    task, artifact, _ = attack(hidden)
    never = context(lambda words: 0.0)
    control = task.draw(never, 0, task.total(never))
    metric = PromptAttackSuccess.create()
    rows = {
        row.metric: row for row in metric.measure(replace(hidden, control=control), task, artifact)
    }
    assert rows["asr"].value == 100
    assert "azure" in rows["asr_with_word"].reason
    assert rows["asr"].reason is None
    assert rows["asr_control"].value == rows["asr_before"].value == 0
    with_azure = (artifact["prefix"] == task.words(hidden).index("azure")).any(dim=1)
    assert bool(with_azure.all())
    share = float((artifact["screened"] == 2).double().mean())
    assert rows["asr_mean"].value == pytest.approx(100 * share)
    assert 0 < rows["asr_mean"].value < 100


def test_the_word_itself_counts_with_the_word_only():
    """A model that forgot nothing is at 100 % with its word, and at 0 without it."""
    _, _, rows = attack(context(lambda words: float("circle" in words)))
    values = {name: rows[f"asr{name}"].value for name in ("", "_with_word", "_without_word")}
    assert values == {"": 100, "_with_word": 100, "_without_word": 0}
    assert rows["asr_before"].value == 100


def test_the_rate_is_no_maximum():
    """Where all prompts draw it with p = 0.2 the selected hits exceed p, the reported rate not."""
    p, reported, selected, screened = 0.2, [], [], []
    for seed in range(60):
        _, artifact, rows = attack(context(lambda words: p, seed), draws=50)
        unit = best_unit(artifact, None)
        reported.append(rows["asr"].value / 100)
        selected.append(float(artifact["selected"][unit]) / SMALL["selection"])
        screened.append(rows["asr_mean"].value / 100)
    error = (p * (1 - p) / (60 * 50)) ** 0.5
    assert abs(sum(reported) / 60 - p) < 4 * error
    assert sum(selected) / 60 > p + 0.1
    assert abs(sum(screened) / 60 - p) < 4 * (p * (1 - p) / (60 * 120)) ** 0.5


def test_rounds_and_searches_have_noise_of_their_own():
    """Two searches differ in prefixes and noise, models share both, and no item depends on others.

    A model at p = 0.5 has other hits in each search, and the same ones when drawn alone.
    """
    half = context(lambda words: 0.5)
    task = PromptAttack.create(SMALL | {"draws": 40, "restarts": 2})
    whole = task.draw(half, 0, 4)
    for i in range(4):
        part = task.draw(half, i, 1)
        assert all(torch.equal(part[name][0], whole[name][i]) for name in whole)
    assert not torch.equal(whole["screened"][0], whole["screened"][1])
    assert not torch.equal(whole["x"][0], whole["x"][1])
    assert whole["with_word"].tolist() == [True, True, False, False]


def test_the_selection_chooses_and_the_report_counts():
    """Of two searches the one with more selected hits is reported, even if the other is luckier."""
    half = context(lambda words: 0.5)
    task = PromptAttack.create(SMALL | {"draws": 40, "restarts": 2})
    artifact = dict(task.draw(half, 0, 4))
    artifact["selected"] = torch.tensor([3, 9, 9, 2])
    artifact["x"] = artifact["x"].clone()
    artifact["x"][0, :, 0, 0, 0] = 0.9  # the lucky one
    artifact["x"][1, :, 0, 0, 0] = -0.9
    artifact["x"][1, :10, 0, 0, 0] = 0.9
    rows = PromptAttackSuccess.create().measure(half, task, artifact)
    values = {row.metric: row for row in rows}
    assert values["asr"].value == values["asr_with_word"].value == 25
    assert (values["asr"].n, values["asr"].low) == (40, pytest.approx(14.187, abs=1e-3))
    assert best_unit(artifact, False) == 2


def test_without_a_control_its_rows_are_null_with_a_reason():
    """They are there, so that nobody reads the rate alone."""
    _, _, rows = attack(context(lambda words: 0.5))
    null = {name for name, row in rows.items() if row.value is None}
    names = ("asr", "asr_with_word", "asr_without_word", "asr_mean")
    assert null == {f"{name}_control" for name in names}
    assert {rows[name].reason for name in null} == {NO_CONTROL}


def test_the_vocabulary_is_in_the_protocol():
    """Other words give another protocol; the same ones in the user's hand do not."""
    some = context(lambda words: 0.0)
    plain = PromptAttack.create(SMALL)
    own = PromptAttack.create(SMALL | {"words": plain.words(some)})
    other = PromptAttack.create(SMALL | {"words": ("azure",)})
    digests = [task.protocol(some)["words"] for task in (plain, own, other)]
    assert digests[0] == digests[1] != digests[2]


def test_pictures_name_the_prefix():
    """A row for each kind of prompts, with the words in its caption."""
    model_context = context(lambda words: float("azure" in words))
    task, artifact, _ = attack(model_context)
    pictures = task.preview(model_context, artifact)
    best = prefix_text(task.words(model_context), artifact["prefix"][0])
    assert next(iter(pictures)) == f"{best} + the prompt with its word"
    assert {tuple(x.shape) for x in pictures.values()} == {(8, 1, 5, 5)}


def test_budgets_increase():
    """Numbers of steps are positive and increase."""
    assert increasing((1, 4)) == (1, 4)
    for wrong in ((0, 1), (2, 2), (3, 1)):
        with pytest.raises(ValueError, match="increase"):
            increasing(wrong)


def test_the_kit():
    """The task and its metric keep what every task and metric keeps, a kill included."""
    check_task(PromptAttack, {"prefixes": 5, "draws": 6, "selection": 4, "screening": 1})
    check_metric(PromptAttackSuccess)


def test_the_mean_over_prefixes_has_an_interval_of_rates():
    """Student's interval, without the part below 0 that no rate can have."""
    rates = torch.zeros(100, dtype=torch.float64)
    rates[0] = 0.25
    whole = stats.t.interval(0.95, 99, loc=rates.mean(), scale=rates.std() / 10)
    interval = mean_rate(rates)
    assert whole[0] < 0
    assert (interval.value, interval.low) == (0.0025, 0.0)
    assert interval.high == pytest.approx(whole[1])
