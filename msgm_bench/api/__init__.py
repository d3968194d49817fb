"""The plugin contract: protocols and data classes, nothing that runs by itself."""

from msgm_bench.api.backbone import Backbone, PretrainedNetwork, WeightChange
from msgm_bench.api.class_names import indices, join_names, parse_names
from msgm_bench.api.columns import MeasuredRows, MetricColumn
from msgm_bench.api.conditioning import Conditioning, Labels, Prompts, Tokenizer
from msgm_bench.api.context import (
    Artifact,
    EvalContext,
    LossFunction,
    ModelContext,
    ModelTrainer,
)
from msgm_bench.api.data import (
    Box,
    Data,
    Dataset,
    DatasetInfo,
    Density,
    Examples,
    ItemDrawing,
    Progress,
    Source,
    members_of,
)
from msgm_bench.api.dequantization import Codec, IdentityCodec, UniformDequantization, half_range
from msgm_bench.api.embedder import Embedder
from msgm_bench.api.evidence import Evidence
from msgm_bench.api.executor import Executor, Resources
from msgm_bench.api.judge import Judge, JudgeOptions, Prediction
from msgm_bench.api.method import LossMethod, Method, Regime, WeightsOptions, dsm_loss
from msgm_bench.api.metric import Metric
from msgm_bench.api.model import Conditioned, DataStats, Model
from msgm_bench.api.option_text import OptionText, read_option, write_option
from msgm_bench.api.plugin import Options, OptionsT, Plugin, option_error, parse_options
from msgm_bench.api.prompts import PROMPT_GROUPS, Prompt, PromptBook, PromptGroup
from msgm_bench.api.result import Direction, MetricProtocol, Result, Row, SpecRecord, digest
from msgm_bench.api.sampler import Sampler
from msgm_bench.api.search_space import Choices, LinearRange, LogRange, Multiples, OneOf
from msgm_bench.api.session import Batch, Batches, Session, Split
from msgm_bench.api.settings import (
    PRESETS,
    Preset,
    Settings,
    Training,
    check_presets,
    merge,
    on_track,
)
from msgm_bench.api.task import Cost, CountOptions, Task, TaskOptions
from msgm_bench.api.track import Track, track_name
from msgm_bench.api.tracker import Tracker

__all__ = [
    "PRESETS",
    "PROMPT_GROUPS",
    "Artifact",
    "Backbone",
    "Batch",
    "Batches",
    "Box",
    "Choices",
    "Codec",
    "Conditioned",
    "Conditioning",
    "Cost",
    "CountOptions",
    "Data",
    "DataStats",
    "Dataset",
    "DatasetInfo",
    "Density",
    "Direction",
    "Embedder",
    "EvalContext",
    "Evidence",
    "Examples",
    "Executor",
    "IdentityCodec",
    "ItemDrawing",
    "Judge",
    "JudgeOptions",
    "Labels",
    "LinearRange",
    "LogRange",
    "LossFunction",
    "LossMethod",
    "MeasuredRows",
    "Method",
    "Metric",
    "MetricColumn",
    "MetricProtocol",
    "Model",
    "ModelContext",
    "ModelTrainer",
    "Multiples",
    "OneOf",
    "OptionText",
    "Options",
    "OptionsT",
    "Plugin",
    "Prediction",
    "Preset",
    "PretrainedNetwork",
    "Progress",
    "Prompt",
    "PromptBook",
    "PromptGroup",
    "Prompts",
    "Regime",
    "Resources",
    "Result",
    "Row",
    "Sampler",
    "Session",
    "Settings",
    "Source",
    "SpecRecord",
    "Split",
    "Task",
    "TaskOptions",
    "Tokenizer",
    "Track",
    "Tracker",
    "Training",
    "UniformDequantization",
    "WeightChange",
    "WeightsOptions",
    "check_presets",
    "digest",
    "dsm_loss",
    "half_range",
    "indices",
    "join_names",
    "members_of",
    "merge",
    "on_track",
    "option_error",
    "parse_names",
    "parse_options",
    "read_option",
    "track_name",
    "write_option",
]
