"""The training loop and all that it owns: runtime, batches, EMA, checkpoints."""

from msgm_bench.training.batches import NoisedBatches
from msgm_bench.training.runtime import Runtime
from msgm_bench.training.trainer import Trainer, TrainLog

__all__ = ["NoisedBatches", "Runtime", "TrainLog", "Trainer"]
