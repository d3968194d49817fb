"""Device, precision, threads, memory format and compilation of a run."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

import torch
from torch import nn

from msgm_bench.api import Model
from msgm_bench.errors import OptionError, shorten
from msgm_bench.launch import launched

Precision = Literal["fp32", "tf32", "bf16"]
MAX_CAPTURED_WEIGHTS = 4_000_000
PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "bf16")


@dataclass(frozen=True)
class Runtime:
    """Device and precision of computations.

    Attributes:
        device: CPU or one CUDA device.
        precision: ``fp32``, IEEE in matrix products and convolutions; ``tf32``, both with factors
            of 10 bits; ``bf16``, autocast over fp32 weights and the rest as tf32.
        compile: Whether networks go through ``torch.compile``.
        threads: CPU threads of torch; by default as many as the process has.
    """

    device: torch.device
    precision: Precision = "fp32"
    compile: bool = False
    threads: int = field(default_factory=torch.get_num_threads)

    @classmethod
    def select(
        cls,
        device: str = "auto",
        precision: Precision = "fp32",
        compile: bool = False,
        threads: int | None = None,
    ) -> Self:
        """The named device; ``auto`` is a GPU if there is one, else the CPU.

        Without ``threads`` as many as the process has. Each process of a launcher has a GPU of its
        own, by its number on the machine.

        Raises:
            OptionError: The device does not exist here, or the precision is unknown.
        """
        if precision not in PRECISIONS:
            raise OptionError(f"precision {precision!r}", ", ".join(PRECISIONS))
        launch = launched()
        name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        if launch.count > 1 and name == "cuda":
            name = f"cuda:{launch.local_rank}"
        if launch.count > 1 and device.startswith("cuda:"):
            what = f"device {shorten(device)!r} for {launch.count} processes"
            raise OptionError(what, "auto, cpu, cuda")
        try:
            chosen = torch.device(name)
        except RuntimeError as error:
            raise OptionError(f"device {shorten(device)!r}", "auto, cpu, cuda, cuda:N") from error
        if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
            count = torch.cuda.device_count()
            raise OptionError(
                f"device {shorten(device)!r}: this machine shows {count} CUDA devices",
                "auto, cpu, cuda:N",
            )
        if chosen.type not in ("cpu", "cuda"):
            raise OptionError(f"device {shorten(device)!r}", "auto, cpu, cuda, cuda:N")
        return cls(chosen, precision, compile, threads or torch.get_num_threads())

    def place(self, model: Model) -> Model:
        """Move ``model`` to the device in its memory format; compile its network."""
        model.to(self.device)
        if self.device.type == "cuda":
            model.to(memory_format=torch.channels_last)
        if self.compile:
            model.network.compile()
        return model

    def captures(self, model: Model) -> bool:
        """Whether training steps of ``model`` are captured and replayed as CUDA graphs.

        Small networks on a GPU that are not compiled: starting kernels takes longer than they do.
        """
        if self.device.type != "cuda" or self.compile:
            return False
        return sum(weight.numel() for weight in model.parameters()) <= MAX_CAPTURED_WEIGHTS

    def round_frozen(self, model: Model) -> None:
        """Store frozen weights of matrix products and convolutions in bf16, where ``bf16`` is on.

        Autocast rounds the very same before each product, so no number changes and they take half
        of the memory. Weights that train, biases, norms and embeddings stay as they are.
        """
        if self.precision != "bf16":
            return
        for module in model.modules():
            if isinstance(module, nn.Linear | nn.Conv2d) and not module.weight.requires_grad:
                module.weight.data = module.weight.data.to(torch.bfloat16)

    @property
    def measuring(self) -> Self:
        """The runtime of likelihood, features, judges and metrics: fp32, not compiled."""
        return replace(self, precision="fp32", compile=False)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """A block with this precision and these threads; the process's own are restored afterwards.

        The older switches only: after the newer ``fp32_precision`` ones they contradict each
        other. cuDNN rounds the factors of convolutions to TF32 unless ``allow_tf32`` is false.
        Autocast rounds weights anew at each use: its cache lives as long as the block, and would
        hand the first step's weights to all later ones.
        """
        cudnn = torch.backends.cudnn
        matmul, before = (
            torch.get_float32_matmul_precision(),
            (cudnn.allow_tf32, cudnn.deterministic),
        )
        threads, rounded = torch.get_num_threads(), self.precision != "fp32"
        torch.set_float32_matmul_precision("high" if rounded else "highest")
        cudnn.allow_tf32, cudnn.deterministic = rounded, True
        torch.set_num_threads(self.threads)
        bf16 = self.precision == "bf16"
        try:
            with torch.autocast(self.device.type, torch.bfloat16, bf16, cache_enabled=False):
                yield
        finally:
            torch.set_float32_matmul_precision(matmul)
            cudnn.allow_tf32, cudnn.deterministic = before
            torch.set_num_threads(threads)

    def determinants(self) -> dict[str, Any]:
        """Properties on which results depend: part of every stage's key.

        On a CPU, where results are equal to the bit, sums depend on the number of threads and of
        processes.
        """
        return {
            "torch": torch.__version__.split("+")[0],
            "device": self.device.type,
            "precision": self.precision,
            "compile": self.compile,
            "threads": self.threads if self.device.type == "cpu" else 0,
        } | (_processes() if self.device.type == "cpu" else {})

    def hardware(self) -> dict[str, Any]:
        """Hardware and peak memory, for provenance."""
        cuda = self.device.type == "cuda"
        return (
            self.determinants()
            | _processes()
            | {
                "name": torch.cuda.get_device_name(self.device) if cuda else "CPU",
                **({} if cuda else {"instructions": torch.backends.cpu.get_cpu_capability()}),
                "peak_memory_mib": round(self.peak_memory() / 2**20),
            }
        )

    def peak_memory(self) -> int:
        """Bytes: of the device's allocator on a GPU, of this process on a CPU."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return peak_resident_bytes()


def _processes() -> dict[str, int]:
    """The number of processes that a launcher started, where there are several."""
    count = launched().count
    return {"processes": count} if count > 1 else {}


def peak_resident_bytes() -> int:
    """Largest resident set of this process so far, in bytes.

    ``getrusage`` counts KiB on Linux and bytes on macOS; Windows has no ``resource`` module, and
    psutil, a requirement there alone, reads its peak working set.
    """
    try:
        resource: Any = importlib.import_module("resource")
    except ImportError:  # Windows
        psutil: Any = importlib.import_module("psutil")
        return int(psutil.Process().memory_info().peak_wset)
    scale = 1 if sys.platform == "darwin" else 1024
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * scale
