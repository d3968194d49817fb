"""Estimate of a run, printed in 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich import box
from rich.table import Table

from msgm_bench.cli.class_counts import class_counts
from msgm_bench.cli.tables import console
from msgm_bench.estimate.records import RunEstimate, TaskEstimate, Timing

QUIET = 0.9  # share of a core's time above which a machine is quiet
UNITS = ((31_557_600, "years"), (86_400, "days"), (3_600, "h"), (60, "min"))


def print_estimate(estimate: RunEstimate) -> None:
    """Print facts, budgets, tasks, metrics and times."""
    names = [estimate.dataset, estimate.backbone, *filter(None, [estimate.method])]
    console().print(f"{', '.join(names)}, preset {estimate.preset}\n", style="bold")
    print_pairs(fact_rows(estimate))
    console().print()
    print_training(estimate)
    print_tasks(estimate)
    print_pairs(remark_rows(estimate))


def print_pairs(rows: Iterable[tuple[str, str]]) -> None:
    """Print a column of names beside a column of texts."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(name, text)
    console().print(table)


def fact_rows(estimate: RunEstimate) -> Iterator[tuple[str, str]]:
    """Data, classes, network, process and judge."""
    data, network = estimate.data, estimate.network
    kind = f"points of {data['shape'][0]} dimensions"
    if data["levels"]:
        kind = f"{'x'.join(map(str, data['shape']))}, {data['levels']} grey levels"
    yield "data", f"{kind}; {data['train']:,} to train on, {data['test']:,} held out"
    yield "concepts" if data["prompts"] else "classes", class_counts(data["counts"])
    if data["prompts"]:
        yield "prompts", option_list(data["prompts"])
    yield from (("", remark) for remark in data["remarks"])
    if not estimate.data_is_local:
        yield "", f"not here: msgm-bench data fetch {estimate.dataset}; numbers as published"
    yield "forget", ", ".join(estimate.forget) or "open: name classes or attributes with --forget"
    count = f"{network['parameters'] / 1e6:.2f} M parameters"
    yield "network", f"{network['class']}, {count}; {option_list(network['options'])}"
    if estimate.base:
        yield "base", f"{estimate.base}; not trained here"
    process = dict(estimate.process)
    name = str(process.pop("process"))
    unknown = [key for key, value in process.items() if value is None]
    known = {key: value for key, value in process.items() if value is not None}
    yield "process", f"{name}; {option_list(known)}"
    if unknown:
        yield "", f"{', '.join(unknown)}: from the data, which are not here"
    judge = estimate.judge
    parts = (judge["name"], option_list(judge["options"]))
    yield "judge", "; ".join(part for part in parts if part)


def option_list(options: Mapping[str, Any]) -> str:
    """``key value, key value``, without options that are None."""
    return ", ".join(
        f"{key} {short_value(value)}" for key, value in options.items() if value is not None
    )


def short_value(value: Any) -> str:
    """``value`` in a few letters: numbers with six digits, lists without brackets."""
    if isinstance(value, list | tuple):
        return " ".join(map(short_value, value)) or "none"
    if isinstance(value, Mapping):
        return f"({option_list(value)})"
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def print_training(estimate: RunEstimate) -> None:
    """Print the budgets of the base model and of the methods."""
    is_measured = estimate.evaluation is not None
    table = new_table("Training")
    table.add_column("method", min_width=14)
    for name in ("regime", "steps", "batch", "lr", "warm-up", "EMA", *(["time"] * is_measured)):
        table.add_column(name, justify="left" if name == "regime" else "right", no_wrap=True)
    for training in estimate.training:
        budget = training.budget
        passes = budget["passes"]
        steps = f"{short_value(passes)} passes" if passes else short_value(budget["steps"])
        numbers = (steps, *(short_value(budget[key]) for key in ("batch_size", "learning_rate")))
        ema = short_value(budget["ema_decay"]) if budget["ema_decay"] else "off"
        times = [duration(training.seconds)] if is_measured else []
        names = ", ".join(training.methods)
        names += " (base)" * (training.base and bool(estimate.method))
        columns = (*numbers, short_value(budget["warmup_steps"]), ema)
        if training.closed_form:
            columns = ("closed form", *("-",) * 4)
        table.add_row(names, training.regime, *columns, *times)
    console().print(table)


def print_tasks(estimate: RunEstimate) -> None:
    """Print samplers, network evaluations and items of the tasks."""
    is_measured = estimate.evaluation is not None
    table = new_table("Tasks")
    for name in ("task", "sampler", "NFE", "items", *(["time"] * is_measured)):
        table.add_column(name, justify="left" if name in ("task", "sampler") else "right")
    for task in estimate.tasks:
        times = [duration(task.seconds)] if is_measured else []
        table.add_row(task.name, task.sampler or "own", nfe_text(task), items_text(task), *times)
    console().print(table)


def new_table(title: str) -> Table:
    """An empty table with a title."""
    table = Table(title=title, title_style="bold", title_justify="left", box=box.SIMPLE_HEAD)
    table.pad_edge, table.padding = False, (0, 1, 0, 0)
    return table


def nfe_text(task: TaskEstimate) -> str:
    """Network evaluations an item; ``~`` before an assumption, ``?`` where unknown."""
    if task.nfe is None:
        return "?"
    return f"{'~' if task.assumption else ''}{task.nfe:,}"


def items_text(task: TaskEstimate) -> str:
    """Number of items; ``<=`` before an upper bound."""
    return f"{'<= ' if task.is_upper_bound else ''}{task.items:,}"


def remark_rows(estimate: RunEstimate) -> Iterator[tuple[str, str]]:
    """Assumptions and bounds of the tables, metrics, reasons, and times."""
    for task in estimate.tasks:
        if task.assumption:
            yield task.name, task.assumption
    if any(task.is_upper_bound for task in estimate.tasks):
        yield "<=", "the numbers of items of D_g and of D_f, which are unknown here"
    yield "metrics", ", ".join(metric.name for metric in estimate.metrics)
    no_value = {m.name: m.skip_reason for m in estimate.metrics if m.skip_reason}
    for title, reasons in (("no value", no_value), ("skipped", estimate.skipped)):
        for i, (name, reason) in enumerate(reasons.items()):
            yield "" if i else title, f"{name}: {reason}"
    if estimate.evaluation is not None:
        yield from time_rows(estimate)


def time_rows(estimate: RunEstimate) -> Iterator[tuple[str, str]]:
    """Measured times and their sum."""
    hardware = estimate.hardware
    threads = f", threads: {hardware['threads']}" if hardware["threads"] else ""
    yield "measured", f"on {hardware['name']}{threads}, {hardware['precision']}"
    timings = {t.timed_method: t.step_timing for t in estimate.training if t.step_timing}
    for name, timing in timings.items():
        yield "", step_text(name, timing)
    assert estimate.evaluation is not None
    yield "", f"an evaluation: {timing_text(estimate.evaluation)}"
    if estimate.evaluation_vjp is not None:
        yield "", f"with a Jacobian product: {timing_text(estimate.evaluation_vjp)}"
    drawing = total_seconds(task.seconds for task in estimate.tasks)
    if estimate.method:
        training = total_seconds(t.seconds for t in estimate.training)
        total = total_seconds([training, drawing])
        parts = f"training {duration(training)}, tasks {duration(drawing)}"
        yield "estimate", f"{duration(total)}: {parts}"
    else:
        yield "estimate", f"tasks of each model {duration(drawing)}; training as above"
        yield "", "methods with several passes a step take longer: --method NAME"
    yield "", "judge, references and metrics are not counted"
    yield from busy_rows(estimate)


def busy_rows(estimate: RunEstimate) -> Iterator[tuple[str, str]]:
    """The share of a core that the measurement had, where other processes took the rest.

    A quiet machine takes that share of the time: a thread that has a core for itself does not wait.
    """
    evaluation = estimate.evaluation
    work = [(t.seconds, t.step_timing) for t in estimate.training if estimate.method]
    work += [(task.seconds, evaluation) for task in estimate.tasks]
    shares = [t.share for _, t in work if t is not None and t.share is not None]
    if shares and min(shares) < QUIET:
        quiet = total_seconds(
            None if s is None or t is None or t.share is None else s * t.share for s, t in work
        )
        yield "busy", f"the measurement had {100 * min(shares):.0f} % of the time of a core;"
        yield "", f"on a quiet machine the estimate is about {duration(quiet)}"


def total_seconds(seconds: Iterable[float | None]) -> float | None:
    """The sum; None where a term is None."""
    total = 0.0
    for term in seconds:
        if term is None:
            return None
        total += term
    return total


def step_text(name: str, timing: Timing) -> str:
    """Time of a training step, or of the preparation steps of a closed form."""
    if timing.steps is None:
        return f"a step of {name}: {timing_text(timing)}"
    return f"{name} prepares in {timing.steps:,} steps of {duration(timing.seconds)} each"


def timing_text(timing: Timing) -> str:
    """Time of a batch, and the part of it that was timed."""
    if timing.seconds is None:
        return f"not measured: {timing.reason}"
    part = f", scaled from {timing.measured} items" if timing.measured < timing.batch else ""
    cpu = "" if timing.process_seconds is None else f", CPU time {duration(timing.process_seconds)}"
    return f"{duration(timing.seconds)} for {timing.batch:,} items{part}{cpu}"


def duration(seconds: float | None) -> str:
    """Seconds in the largest unit of which there are two or more; ``?`` where unknown."""
    if seconds is None:
        return "?"
    for size, unit in UNITS:
        if seconds >= 2 * size:
            count = seconds / size
            return f"{count:,.0f} {unit}" if count >= 10 else f"{count:.1f} {unit}"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
