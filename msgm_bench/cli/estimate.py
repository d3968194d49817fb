"""What a run would do, for a person to read in 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.table import Table

from msgm_bench.cli.class_counts import class_counts
from msgm_bench.cli.tables import console
from msgm_bench.estimate.records import RunEstimate, TaskEstimate, Timing

UNITS = ((31_557_600, "years"), (86_400, "days"), (3_600, "h"), (60, "min"))


def show(outline: RunEstimate) -> None:
    """Facts, budgets, tasks, metrics, times."""
    who = [outline.dataset, outline.backbone, *([outline.method] if outline.method else [])]
    console().print(f"{', '.join(who)}, preset {outline.preset}\n", style="bold")
    pairs(facts(outline))
    console().print()
    training(outline)
    tasks(outline)
    pairs(remarks(outline))


def pairs(rows: Iterator[tuple[str, str]]) -> None:
    """A column of names and one of texts."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(name, text)
    console().print(table)


def facts(outline: RunEstimate) -> Iterator[tuple[str, str]]:
    """What it is about."""
    data, network = outline.data, outline.network
    kind = f"points of {data['shape'][0]} dimensions"
    if data["levels"]:
        kind = f"{'x'.join(map(str, data['shape']))}, {data['levels']} grey levels"
    yield "data", f"{kind}; {data['train']:,} to train on, {data['test']:,} held out"
    yield "classes", class_counts(data["counts"])
    yield from (("", remark) for remark in data["remarks"])
    if not outline.here:
        yield "", f"not here: msgm-bench data fetch {outline.dataset}; numbers as published"
    yield "forget", ", ".join(outline.forget) or "not said: a class or attribute, --forget NAME"
    count = f"{network['parameters'] / 1e6:.2f} M parameters"
    yield "network", f"{network['class']}, {count}; {listed(network['options'])}"
    if outline.base:
        yield "base", f"{outline.base}; not trained here"
    process = dict(outline.process)
    name = str(process.pop("process"))
    unknown = [key for key, value in process.items() if value is None]
    known = {key: value for key, value in process.items() if value is not None}
    yield "process", f"{name}; {listed(known)}"
    if unknown:
        yield "", f"{', '.join(unknown)}: from the data, which are not here"
    judge = outline.judge
    yield "judge", "; ".join(part for part in (judge["name"], listed(judge["options"])) if part)


def listed(options: Mapping[str, Any]) -> str:
    """``key value, key value``."""
    return ", ".join(f"{key} {value(v)}" for key, v in options.items() if v is not None)


def value(found: Any) -> str:
    """Short."""
    if isinstance(found, list | tuple):
        return " ".join(map(value, found)) or "none"
    if isinstance(found, Mapping):
        return f"({listed(found)})"
    if isinstance(found, float):
        return f"{found:.6g}"
    return f"{found:,}" if isinstance(found, int) and not isinstance(found, bool) else str(found)


def training(outline: RunEstimate) -> None:
    """Who trains for how long."""
    measured = outline.evaluation is not None
    table = sheet("Training")
    table.add_column("method", min_width=14)
    for name in ("regime", "steps", "batch", "lr", "warm-up", "EMA", *(["time"] * measured)):
        table.add_column(name, justify="left" if name == "regime" else "right", no_wrap=True)
    for stint in outline.training:
        budget = stint.budget
        passes = budget["passes"]
        steps = f"{value(passes)} passes" if passes else value(budget["steps"])
        numbers = (steps, *(value(budget[key]) for key in ("batch_size", "learning_rate")))
        ends = (
            value(budget["warmup_steps"]),
            value(budget["ema_decay"]) if budget["ema_decay"] else "off",
        )
        times = [duration(stint.seconds)] if measured else []
        names = ", ".join(stint.methods) + " (base)" * (stint.base and bool(outline.method))
        table.add_row(names, stint.regime, *numbers, *ends, *times)
    console().print(table)


def tasks(outline: RunEstimate) -> None:
    """What the model is asked to do."""
    measured = outline.evaluation is not None
    table = sheet("Tasks")
    for name in ("task", "sampler", "NFE", "items", *(["time"] * measured)):
        table.add_column(name, justify="left" if name in ("task", "sampler") else "right")
    for task in outline.tasks:
        times = [duration(task.seconds)] if measured else []
        table.add_row(task.name, task.sampler or "own", evaluations(task), count(task), *times)
    console().print(table)


def sheet(title: str) -> Table:
    """An empty table."""
    table = Table(title=title, title_style="bold", title_justify="left", box=box.SIMPLE_HEAD)
    table.pad_edge, table.padding = False, (0, 1, 0, 0)
    return table


def evaluations(task: TaskEstimate) -> str:
    """Network evaluations an item; ``~`` where they are assumed."""
    if task.nfe is None:
        return "?"
    return f"{'~' if task.assumed else ''}{task.nfe:,}"


def count(task: TaskEstimate) -> str:
    """Items; ``<=`` where they are a bound."""
    return f"{'<= ' if task.at_most else ''}{task.items:,}"


def remarks(outline: RunEstimate) -> Iterator[tuple[str, str]]:
    """What the tables leave open, metrics, and times."""
    for task in outline.tasks:
        if task.assumed:
            yield task.name, task.assumed
    if any(task.at_most for task in outline.tasks):
        yield "<=", "as many as there are of D_g and of D_f, which are not known here"
    yield "metrics", ", ".join(gauge.name for gauge in outline.metrics)
    absent = {gauge.name: gauge.missing for gauge in outline.metrics if gauge.missing}
    for title, reasons in (
        ("no value", absent),
        ("left out", {**outline.left_out, **outline.skipped}),
    ):
        for i, (name, reason) in enumerate(reasons.items()):
            yield "" if i else title, f"{name}: {reason}"
    if outline.evaluation is not None:
        yield from times(outline)


def times(outline: RunEstimate) -> Iterator[tuple[str, str]]:
    """What was measured, and what it adds up to."""
    hardware = outline.hardware
    threads = f", threads: {hardware['threads']}" if hardware["threads"] else ""
    yield "measured", f"on {hardware['name']}{threads}, {hardware['precision']}"
    for name, pace in {s.paced_by: s.pace for s in outline.training if s.pace}.items():
        yield "", f"a step of {name}: {speed(pace)}"
    assert outline.evaluation is not None
    yield "", f"an evaluation: {speed(outline.evaluation)}"
    if outline.evaluation_vjp is not None:
        yield "", f"with a Jacobian product: {speed(outline.evaluation_vjp)}"
    drawn = total(task.seconds for task in outline.tasks)
    if outline.method:
        trained = total(stint.seconds for stint in outline.training)
        whole = None if trained is None or drawn is None else trained + drawn
        yield (
            "estimate",
            f"{duration(whole)}: training {duration(trained)}, tasks {duration(drawn)}",
        )
    else:
        yield "estimate", f"tasks of each model {duration(drawn)}; training as above"
        yield "", "methods that make several passes a step take longer: --method NAME"
    yield "", "judge, references and metrics are not counted"


def total(seconds: Iterator[float | None]) -> float | None:
    """The sum, unless one is unknown."""
    found = list(seconds)
    known = [each for each in found if each is not None]
    return sum(known) if len(known) == len(found) else None


def speed(pace: Timing) -> str:
    """Time of a batch, and how it was found."""
    if pace.seconds is None:
        return f"not measured: {pace.reason}"
    part = f", scaled from {pace.measured} items" if pace.measured < pace.batch else ""
    return f"{duration(pace.seconds)} for {pace.batch:,} items{part}"


def duration(seconds: float | None) -> str:
    """In the unit in which it is a number of people's size."""
    if seconds is None:
        return "?"
    for size, unit in UNITS:
        if seconds >= 2 * size:
            count = seconds / size
            return f"{count:,.0f} {unit}" if count >= 10 else f"{count:.1f} {unit}"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
