"""Artifacts: the same items whatever the chunks, and the chunks that a kill left are used."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from msgm_bench import CountOptions, Noise, Task
from msgm_bench.errors import PluginError
from msgm_bench.evaluation.artifacts import ARTIFACT, draw_artifact
from msgm_bench.experiment.graph import build_graph
from msgm_bench.experiment.plan import resolve
from msgm_bench.experiment.spec import RunSpec
from msgm_bench.registry import registry


class Draws(Task[CountOptions]):
    """Noise of its items, and a count of the calls."""

    name = "draws"

    def __init__(self, config=None):
        super().__init__(config)
        self.starts = []

    def total(self, context):
        """``count``."""
        return self.options.count

    def draw(self, context, start, count):
        """Noise."""
        self.starts.append(start)
        return {"x": Noise(context.seed, start, count, torch.device("cpu")).normal((3,))}


SUBJECT = SimpleNamespace(seed=5)


def silent(*arguments):
    """Hears of progress."""


@pytest.mark.parametrize("batch_size", [1, 4, 7, 10, 64])
def test_chunks_do_not_show(batch_size, tmp_path):
    """However the items are split, the artifact is the same, and only it is left."""
    task, told = Draws.create({"count": 10, "batch_size": batch_size}), []
    draw_artifact(task, SUBJECT, tmp_path, lambda *said: told.append(said[:2]))
    whole = Noise(5, 0, 10, torch.device("cpu")).normal((3,))
    assert torch.equal(load_file(tmp_path / ARTIFACT)["x"], whole)
    assert [path.name for path in tmp_path.iterdir()] == [ARTIFACT]
    assert told[-1] == (10, 10)


def test_finished_chunks_are_read(tmp_path):
    """What an earlier attempt left is not drawn again; a damaged chunk is."""
    save_file({"x": torch.full((4, 3), 7.0)}, tmp_path / "chunk-00000000.safetensors")
    (tmp_path / "chunk-00000004.safetensors").write_bytes(b"damaged")
    task = Draws.create({"count": 10, "batch_size": 4})
    draw_artifact(task, SUBJECT, tmp_path, silent)
    assert task.starts == [4, 8]
    x = load_file(tmp_path / ARTIFACT)["x"]
    assert torch.equal(x[:4], torch.full((4, 3), 7.0))
    assert torch.equal(x[4:], Noise(5, 4, 6, torch.device("cpu")).normal((3,)))


def test_wrong_shapes(tmp_path):
    """A task that draws too many items is told so, by name."""

    class Greedy(Draws):
        """Too many."""

        name = "greedy"

        def draw(self, context, start, count):
            """One more."""
            return {"x": torch.zeros(count + 1, 3)}

    with pytest.raises(PluginError, match=r"'greedy' drew 'x' of shape \(11, 3\)"):
        draw_artifact(Greedy.create({"count": 10}), SUBJECT, tmp_path, silent)


@pytest.mark.parametrize(
    ("backbone", "sampler"),
    [("vesde", "heun"), ("vesde", "em"), ("vesde", "pc"), ("ddpm", "ancestral"), ("ddpm", "ddim")],
)
def test_samples_do_not_depend_on_their_batch(backbone, sampler, new_registry):
    """Each sample is a function of (seed, index): batches of 5 or 16 give the same items."""
    spec = RunSpec(
        dataset="gaussians",
        forget="middle",
        backbone=backbone,
        method="standard",
        dataset_params={"train_size": 200, "test_size": 200},
        backbone_params={"width": 16, "depth": 1},
    )
    model = build_graph(resolve(spec)).model.fresh_model().eval()
    with torch.no_grad():
        for parameter in model.parameters():  # fresh weights end in zeros: the network is silent
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.manual_seed(1)))
        drawn = registry().create("samplers", sampler, {"nfe": 12})
        cpu = torch.device("cpu")
        whole = drawn.sample(model, Noise(0, 0, 16, cpu)).x
        parts = [drawn.sample(model, Noise(0, i, min(5, 16 - i), cpu)).x for i in (0, 5, 10, 15)]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-4, atol=1e-5)
    assert whole.std() > 0.1
