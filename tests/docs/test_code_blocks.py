"""Every code block of the README and of the documentation runs, compiles or parses."""

from __future__ import annotations

import importlib.util
import itertools
import json
import sys
import tomllib

import click
import pytest
from blocks import PAGES, ROOT, Block, all_blocks, blocks, command_lines

from msgm_bench.boards import Board
from msgm_bench.cli.main import cli
from msgm_bench.registry import registry
from msgm_bench.storage import parse_yaml

KINDS = {
    "--method": "methods",
    "--backbone": "backbones",
    "--dataset": "datasets",
    "--executor": "executors",
    "--track": "trackers",
}
LANGUAGES = ("", "console", "sh", "python", "yaml", "toml", "json", "text", "bibtex")


def executable(page) -> list[Block]:
    """The `python exec` blocks of a page."""
    return [block for block in blocks(page) if "exec" in block.words]


RUNNABLE = [page.relative_to(ROOT).as_posix() for page in PAGES if executable(page)]


@pytest.mark.parametrize("block", all_blocks("python"), ids=str)
def test_python_compiles(block):
    """Every block of Python is valid by itself."""
    compile(block.text, str(block), "exec")


@pytest.mark.parametrize("page", RUNNABLE)
def test_python_runs(page, tmp_path, monkeypatch):
    """The `exec` blocks of a page run one after the other, as one module: its checks pass."""
    name = "page_" + page.removesuffix(".md").replace("/", "_").replace("-", "_")
    module = tmp_path / f"{name}.py"
    module.write_text("\n\n".join(block.text for block in executable(ROOT / page)), "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = importlib.util.spec_from_file_location(name, module)
    loaded = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, loaded)
    spec.loader.exec_module(loaded)
    hooks = [value for value in vars(loaded).values() if hasattr(value, "msgm_bench_impl")]
    assert hooks or not page.startswith("docs/plugins/") or page.endswith("/commands.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_exist(page):
    """Commands, their options and the plugins that they name are those of the program."""
    defined = {line.split('"')[1] for block in executable(page) for line in names(block)}
    for block in blocks(page):
        if block.language in ("", "console", "sh"):
            for words in command_lines(block):
                problem = wrong_with(words, defined)
                assert problem is None, f"{block}: msgm-bench {' '.join(words)}: {problem}"


def names(block: Block) -> list[str]:
    """Lines that name a plugin of the page's own."""
    return [line for line in block.text.splitlines() if line.strip().startswith('name = "')]


def wrong_with(words: list[str], defined: set[str]) -> str | None:
    """Why the program would refuse the command line before it reads a file, or None."""
    root = click.Context(cli, info_name="msgm-bench", **cli.context_settings)
    command: click.Command = cli
    context = root
    while isinstance(command, click.Group):
        found = command.get_command(context, words[0]) if words else None
        if found is None:
            if words and words[0].startswith("-"):
                return parse_problem(command, context, words)
            return f"no command {words[:1]}" if words else None
        command, words = found, words[1:]
        context = click.Context(command, info_name=command.name, parent=context)
    return parse_problem(command, context, words) or unknown_plugin(words, defined)


def parse_problem(command: click.Command, context: click.Context, words: list[str]) -> str | None:
    """An unknown option, a missing value, a value that is not among the choices."""
    try:
        values, _, _ = command.make_parser(context).parse_args(list(words))
        for param in command.params:
            value = values.get(param.name)
            if isinstance(param.type, click.Choice) and value and not is_placeholder(value):
                param.type_cast_value(context, value)
    except click.UsageError as error:
        return error.format_message()
    return None


def is_placeholder(value) -> bool:
    """A word in capitals stands for what the reader types."""
    return isinstance(value, str) and value.isupper()


def unknown_plugin(words: list[str], defined: set[str]) -> str | None:
    """A plugin that is neither registered nor defined on the page."""
    for option, name in itertools.pairwise(words):
        if option in KINDS and not is_placeholder(name) and name not in defined:
            known = registry().names(KINDS[option])
            if name not in known:
                return f"{name!r} is none of {', '.join(known)}"
    return None


@pytest.mark.parametrize("block", all_blocks("yaml"), ids=str)
def test_yaml_is_a_board(block):
    """A block of YAML with a title is a whole `board.yaml`; every other one is YAML."""
    content = parse_yaml(block.text, str(block))
    if "title" in content:
        Board.model_validate(content)


@pytest.mark.parametrize("block", all_blocks("toml", "json"), ids=str)
def test_toml_and_json_parse(block):
    """They are what they are called."""
    assert (tomllib.loads if block.language == "toml" else json.loads)(block.text)


def test_every_language_is_checked():
    """No block escapes because of the name of its language; directives are Sphinx's."""
    unknown = [
        f"{block}: {block.language}"
        for page in PAGES
        for block in blocks(page)
        if block.language not in LANGUAGES and not block.language.startswith("{")
    ]
    assert not unknown


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("run --methd obt", "No such option"),
        ("run --regime sideways", "is not one of"),
        ("run --method obd", "is none of"),
        ("rum", "no command"),
        ("run -p", "requires an argument"),
    ],
)
def test_wrong_commands_are_noticed(line, problem):
    """A misspelt command, option, choice or plugin does not pass."""
    assert problem in wrong_with(line.split(), set())
