"""Classes and prompts of a dataset, printed in 80 columns."""

from __future__ import annotations

from msgm_bench.api import PROMPT_GROUPS, Data, PromptBook
from msgm_bench.cli.tables import print_table
from msgm_bench.cli.terminal import echo
from msgm_bench.errors import clean

MAX_CLASSES = 100  # rows of the table of classes


def print_summary(data: Data) -> None:
    """Print each class with its numbers of items, the prompts, and the remarks on the files."""
    size = "x".join(map(str, data.shape))
    echo(f"{len(data.train):,} to train on, {len(data.test):,} held out, of {size}")
    counts = list(data.counts().items())
    kind = "attribute" if data.train.y.ndim == 2 else "class"
    kind = kind if data.prompts is None else "concept"
    rows = [(name, f"{train:,}", f"{test:,}") for name, (train, test) in counts[:MAX_CLASSES]]
    print_table((kind, "to train on", "held out"), rows)
    if len(counts) > MAX_CLASSES:
        echo(f"and {len(counts) - MAX_CLASSES:,} more")
    if data.prompts is not None:
        _print_prompts(data.prompts)
    for remark in data.remarks:
        echo(clean(remark))


def _print_prompts(book: PromptBook) -> None:
    """Print the prompts of each group by number and first example, domains and vocabulary."""
    prompts = {group: [p.text for p in book if p.group == group] for group in PROMPT_GROUPS}
    rows = [(group, f"{len(texts):,}", texts[0]) for group, texts in prompts.items() if texts]
    print_table(("prompts", "number", "such as"), rows)
    for name, concepts in book.domains.items():
        echo(clean(f"domain {name}: {', '.join(concepts)}"))
    echo(f"{len(book.words):,} words" if book.words else "an open vocabulary")
