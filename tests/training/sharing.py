"""What two processes do together, and one alone, for the tests of shared batches."""

from __future__ import annotations

import copy
import os
import signal
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "methods")]
import torch  # noqa: E402
from conditional_toy import Curved, trainer_of  # noqa: E402
from torch import nn  # noqa: E402

from msgm_bench import LossMethod, Method, dsm_loss, ranks  # noqa: E402
from msgm_bench.errors import MsgmBenchError, RankError, StorageError  # noqa: E402
from msgm_bench.launch import launched  # noqa: E402
from msgm_bench.registry import registry  # noqa: E402
from msgm_bench.storage.chunks import compute_in_chunks  # noqa: E402
from msgm_bench.storage.tensors import save_tensors  # noqa: E402
from msgm_bench.training import Trainer  # noqa: E402
from msgm_bench.training.batch_shares import BatchShares  # noqa: E402

METHODS = {
    "finetune": {},
    "ort": {"forget_interval": 2},
    "obt": {"forget_interval": 2, "max_error": 1.0},
    "erasediff": {"inner_interval": 4},
    "salun": {},
    "rgd": {"truncation": "batch"},
    "esd": {"trajectory_steps": 4},
    "sfd": {},
    "selective_amnesia": {"samples_per_class": 2, "nfe": 3, "fisher_timesteps": 4},
}
STEPS, BATCH = 10, 9  # of which two processes have 4 and 5
COSTLY = {"sfd", "selective_amnesia", "any_loss"}  # they meet ten times a step


class AnyLoss(Method):
    """A loss that is no mean over items, with a network of its own and all that autograd has."""

    name = "any_loss"
    needs = frozenset({"retain"})

    def setup(self, session):
        """A copy of the model that learns by itself, and a layer that is no copy."""
        self.other = copy.deepcopy(session.model)
        self.adam = session.adam("other", self.other.network, 0.01)
        self.scale = nn.Linear(1, 1)
        nn.init.constant_(self.scale.weight, 0.5)
        nn.init.constant_(self.scale.bias, 0.1)
        self.scale_adam = session.adam("scale", self.scale, 0.01)

    def update(self, session, step):
        """Products of means, a penalty of the weights, a gradient within the loss, its vmap."""
        model, batch = session.model, session.batch("retain", step)
        x_t = batch.x_t.clone().requires_grad_()
        error = model.eps(x_t, batch.t, batch.condition) - batch.eps
        (slope,) = torch.autograd.grad(error.square().sum(), x_t, create_graph=True)
        other = self.other.eps(x_t, batch.t, batch.condition)
        penalty = sum(p.square().sum() for p in model.network.parameters())
        loss = error.mean() * error.square().mean() + slope.square().mean().sqrt()
        loss = loss + 0.1 * penalty + (error * other).mean().tanh()
        loss = loss * self.scale(error.mean().reshape(1, 1)).square().sum()

        def single(x, t, c):
            return model.network(x[None], t[None], c[None])[0]

        mapped = torch.vmap(single)(batch.x_t, batch.t, batch.condition)
        loss = loss + mapped.square().mean()
        session.minimise(loss)
        for adam in (self.adam, self.scale_adam):
            adam.step()
            adam.zero_grad()
        return loss.detach()


class Interrupted(LossMethod):
    """Learns D_g; in step 3 one process hears SIGTERM."""

    name = "interrupted"
    needs = frozenset({"retain"})
    interrupted_rank: int | None = None

    def loss(self, model, batches, step):
        """Denoising score matching."""
        if step == 3 and ranks.current().rank == self.interrupted_rank:
            os.kill(os.getpid(), signal.SIGTERM)
        return dsm_loss(model, batches.retain)


def train(method: Method, folder: Path, **budget) -> Trainer:
    """The trainer after its training, in a model of classes."""
    settings = {"steps": STEPS, "batch_size": BATCH, "ema_decay": 0.9} | budget
    trainer = trainer_of(method, network=Curved, **settings)
    trainer.run(folder, lambda *progress: None)
    return trainer


def outcome(trainer: Trainer) -> dict:
    """Weights ``[P]``, passes and the log of a training."""
    weights = torch.cat([p.detach().reshape(-1) for p in trainer.model.parameters()])
    return {"weights": weights, "passes": trainer.passes.count, "log": trainer.log.rows}


def trainings(folder: Path) -> dict:
    """Every method's outcome."""
    methods = {
        name: registry().entry("methods", name).cls.create(options)
        for name, options in METHODS.items()
    }
    return {
        name: outcome(train(method, folder / name, steps=3 if name in COSTLY else STEPS))
        for name, method in (methods | {"any_loss": AnyLoss()}).items()
    }


def draw(folder: Path, size: int) -> list[int]:
    """Items 0 .. 22 in chunks into ``folder``; which of them this process computed."""
    own = []

    def compute(start, count):
        own.extend(range(start, start + count))
        return {"x": torch.arange(start, start + count).float().sqrt()}

    compute_in_chunks(folder, "items.safetensors", 23, size, compute, lambda done: None)
    return own


class Dropping(nn.Module):
    """Half of the entries, twice as large; ``batch_norm`` looks at all items."""

    def __init__(self, batch_norm: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.layer = nn.BatchNorm1d(4) if batch_norm else nn.Dropout(0.5)

    def forward(self, x):
        """The entries of ``x [N, 4]``."""
        return self.layer(x) * self.weight


def shared_calls() -> dict:
    """Outputs and gradients of single calls, and the state of the generator after them."""
    x, results = torch.arange(8.0).reshape(2, 4) + 1, {}
    torch.manual_seed(0)
    for name, network, items in (
        ("dropout", Dropping(), x.repeat(8, 1)),
        ("batch_norm", Dropping(batch_norm=True), x),
        ("one item", nn.Linear(4, 1), x[:1]),
    ):
        torch.manual_seed(0)
        with BatchShares(ranks.current(), [network]).sharing():
            output = network(items)
            output.square().sum().backward()
        gradient = next(iter(network.parameters())).grad
        results[name] = (output.detach(), gradient, torch.rand(()))
    return results


def together(folder: Path) -> dict:
    """All that two processes do, one after the other."""
    results: dict = {}
    with ranks.at_work("cpu"):
        results["trainings"] = trainings(folder)
        results["calls"] = shared_calls()
    results["whole"] = draw_together(folder / "whole", 10)
    if launched().leads:  # chunks that one process alone left
        save_tensors(folder / "chunk-00000000.safetensors", {"x": torch.arange(6.0).sqrt()})
        save_tensors(folder / "chunk-00000006.safetensors", {"x": torch.arange(6.0, 12.0).sqrt()})
    results["resumed"] = draw_together(folder, 6)
    results["interrupted"] = {rank: interrupted(folder, rank) for rank in (None, 0, 1)}
    results["failed"] = {rank: failure(rank) for rank in (0, 1)}
    results["checkpoints"] = other_checkpoints(folder)
    return results


def draw_together(folder: Path, size: int) -> list[int]:
    """The items that this process computed."""
    folder.mkdir(exist_ok=True)
    with ranks.at_work("cpu"):
        return draw(folder, size)


def interrupted(folder: Path, rank: int | None) -> dict:
    """A training in which a process hears SIGTERM, resumed; the files between."""
    method, place, files = Interrupted(), folder / f"interrupted-{rank}", []
    method.interrupted_rank = rank
    place.mkdir(exist_ok=True)
    try:
        with ranks.at_work("cpu"):
            return outcome(train(method, place, steps=6)) | {"files": files}
    except KeyboardInterrupt:
        files = [path.name for path in place.iterdir()]
    with ranks.at_work("cpu"):
        return outcome(train(Interrupted(), place, steps=6)) | {"files": files}


def failure(rank: int) -> tuple[str, str]:
    """Type and text of what this process raises where process ``rank`` fails."""
    try:
        with ranks.at_work("cpu"):
            if launched().rank == rank:
                raise ZeroDivisionError(f"in process {rank}")
            ranks.current().sum_(torch.zeros(1))
    except (ZeroDivisionError, MsgmBenchError) as error:
        return type(error).__name__, str(error)
    return "nothing", ""


def other_checkpoints(folder: Path) -> str:
    """The error of processes of which only the first one sees the checkpoint."""
    place = folder / ("interrupted-0" if launched().leads else "elsewhere")
    place.mkdir(exist_ok=True)
    try:
        with ranks.at_work("cpu"):
            train(Interrupted(), place, steps=6)
    except StorageError as error:
        return str(error)
    return "nothing"


def run(rank: int, port: int, folder: str) -> None:
    """A process: its results, then the second one dies at work."""
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.save(together(Path(folder)), Path(folder) / f"{rank}.pt")
    try:
        with ranks.at_work("cpu"):
            if rank:
                os.kill(os.getpid(), signal.SIGKILL)
            ranks.current().barrier()
    except RankError as error:
        (Path(folder) / "killed.txt").write_text(str(error), encoding="utf-8")
