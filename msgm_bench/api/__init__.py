"""The plugin contract: protocols and data classes, nothing that runs by itself."""

from msgm_bench.api.class_names import indices, join_names, parse_names
from msgm_bench.api.codec import Codec, GreyLevels, Points, half_range
from msgm_bench.api.columns import MeasuredRows, MetricColumn, Track
from msgm_bench.api.data import (
    Box,
    Data,
    Dataset,
    Density,
    Examples,
    Progress,
    Sketch,
    Source,
)
from msgm_bench.api.evaluation import (
    Artifact,
    Cost,
    CountOptions,
    Embedder,
    Metric,
    Sampler,
    Scene,
    Subject,
    Task,
    TaskOptions,
)
from msgm_bench.api.execution import Executor, Tracker
from msgm_bench.api.judge import Judge, JudgeOptions, Verdict
from msgm_bench.api.method import LossMethod, Method, Regime, dsm_loss
from msgm_bench.api.model import Adopted, Backbone, Conditioned, DataInfo, Model
from msgm_bench.api.option_text import OptionText, read_option, write_option
from msgm_bench.api.plugin import Options, OptionsT, Plugin, option_error, parse_options
from msgm_bench.api.result import Direction, MetricProtocol, Result, Row, SpecRecord, digest
from msgm_bench.api.session import Batch, Batches, Session, Split
from msgm_bench.api.settings import PRESETS, Preset, Settings, Training, check_presets, merge

__all__ = [
    "PRESETS",
    "Adopted",
    "Artifact",
    "Backbone",
    "Batch",
    "Batches",
    "Box",
    "Codec",
    "Conditioned",
    "Cost",
    "CountOptions",
    "Data",
    "DataInfo",
    "Dataset",
    "Density",
    "Direction",
    "Embedder",
    "Examples",
    "Executor",
    "GreyLevels",
    "Judge",
    "JudgeOptions",
    "LossMethod",
    "MeasuredRows",
    "Method",
    "Metric",
    "MetricColumn",
    "MetricProtocol",
    "Model",
    "OptionText",
    "Options",
    "OptionsT",
    "Plugin",
    "Points",
    "Preset",
    "Progress",
    "Regime",
    "Result",
    "Row",
    "Sampler",
    "Scene",
    "Session",
    "Settings",
    "Sketch",
    "Source",
    "SpecRecord",
    "Split",
    "Subject",
    "Task",
    "TaskOptions",
    "Track",
    "Tracker",
    "Training",
    "Verdict",
    "check_presets",
    "digest",
    "dsm_loss",
    "half_range",
    "indices",
    "join_names",
    "merge",
    "option_error",
    "parse_names",
    "parse_options",
    "read_option",
    "write_option",
]
