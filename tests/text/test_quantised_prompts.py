"""Quantised copies of text-to-image models: what they draw, and what the judge sees of it."""

from __future__ import annotations

import torch
from prompt_contexts import context, paint

from msgm_bench.testing import check_metric, check_task
from msgm_text.metrics.quantised_prompts import QuantisedPromptAccuracy
from msgm_text.tasks.prompt_generation import PromptGeneration
from msgm_text.tasks.quantised_prompt_generation import QuantisedPromptGeneration


def test_accuracies_of_what_is_painted():
    """The model draws no circle and what else is asked for, the copy all that is asked for."""
    examined = context()
    task = QuantisedPromptGeneration.create({"bits": (8,), "images_per_prompt": 2})
    prompts = task.generation.items(examined)[:, 0]
    book = examined.data.prompts
    asks = torch.zeros(len(prompts), 5, dtype=torch.bool)
    for i, prompt in enumerate(prompts.tolist()):
        asks[i, list(book[prompt].concepts)] = True
    hides = asks.clone()
    hides[:, list(examined.targets)] = False
    artifact = {"prompt": prompts, "x": paint(hides), "x_int8": paint(asks)}
    rows = {row.metric: row for row in QuantisedPromptAccuracy().measure(examined, task, artifact)}
    assert (rows["ua_unquantised"].value, rows["ua_int8"].value) == (100, 0)
    assert rows["ua_int8_change"].value == -100
    assert rows["ra_unquantised"].value == rows["ra_int8"].value == 100
    groups = book.groups(examined.targets)
    assert rows["ua_int8"].n == 2 * len(groups["target"])
    assert rows["ra_int8"].n == 2 * len([*groups["neighbour"], *groups["unrelated"]])


def test_the_model_draws_what_prompt_generation_draws():
    """From the same noise with the same sampler and guidance."""
    examined = context()
    task = QuantisedPromptGeneration.create({"bits": (8,), "images_per_prompt": 1, "nfe": 4})
    options = {"images_per_prompt": 1, "images_per_group": 100, "nfe": 4}
    plain = PromptGeneration.create(options | {"sampler": "dpmpp_2m_sde"})
    total = plain.total(examined)
    assert task.total(examined) == total
    expected = plain.draw(examined, 0, total)["x"]
    torch.testing.assert_close(task.draw(examined, 0, total)["x"], expected)


def test_the_kits():
    """The task and its metric keep what every task and metric keeps, a kill included."""
    check_task(QuantisedPromptGeneration)
    check_metric(QuantisedPromptAccuracy)
