"""Training: loop, optimizer, batches, EMA, checkpoints, runtime."""

from msgm_bench.training.batches import NoisedBatches
from msgm_bench.training.runtime import Runtime
from msgm_bench.training.trainer import Trainer, TrainLog

__all__ = ["NoisedBatches", "Runtime", "TrainLog", "Trainer"]
