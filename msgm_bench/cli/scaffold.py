"""A new plugin's distribution, from the templates."""

from __future__ import annotations

import builtins
import keyword
import re
from pathlib import Path

import jinja2

from msgm_bench.cli.kinds import KINDS
from msgm_bench.errors import OptionError, PluginError, UsageError
from msgm_bench.quarantine import checked_name
from msgm_bench.storage import storage_errors, temporary_folder

GROUP, COMMANDS_GROUP = "msgm_bench", "msgm_bench.commands"
NAMES = frozenset({"Any", "Callable", "Counter", "Field", "Iterable", "Iterator", "Mapping"})
"""Names that templates use beside the public ones of msgm_bench."""
NAMES |= {"Network", "Path", "Sequence", "Tensor"}


def write(kind: str, name: str, place: Path) -> Path:
    """Make the folder of a new plugin in ``place``; whole, or not at all.

    Args:
        kind: In the singular, or ``command``.
        name: What the user will type.
        place: The folder in which it is made.

    Returns:
        The new folder.

    Raises:
        OptionError: No plugin may have this name.
        UsageError: The folder is there, or the name is taken.
        StorageError: It cannot be written.
    """
    try:
        checked_name(name, "a plugin")
    except PluginError as error:
        raise OptionError(f"the name {name!r}", error.allowed) from error
    _check_free(kind, name)
    files = render(kind, name)
    folder = place.expanduser() / distribution(name)
    if folder.exists() or folder.is_symlink():
        raise UsageError(
            f"{folder} is there already", "a folder that is new", "choose another NAME or --dir"
        )
    with storage_errors(folder), temporary_folder(folder) as work:
        for file, text in files.items():
            (work / file).write_text(text, encoding="utf-8")
        work.rename(folder)
    return folder


def _check_free(kind: str, name: str) -> None:
    """Raise ``UsageError`` where two plugins of a kind would have one name."""
    from msgm_bench.registry import registry

    if kind not in KINDS:
        from msgm_bench.cli.main import COMMANDS

        if name in COMMANDS:
            raise UsageError(f"{name!r} is a command of msgm-bench", "another NAME")
        return
    for entry in registry().entries(f"{kind}s"):
        if entry.cls.name == name:
            raise UsageError(
                f"the {kind} {name!r} is there already, from {entry.provenance}",
                "another NAME: two plugins of one kind cannot share theirs",
            )


def distribution(name: str) -> str:
    """Name of the distribution and of its folder: ``my_plugin.2`` is ``msgm-bench-my-plugin-2``."""
    return f"msgm-bench-{re.sub('[-_.]+', '-', name).strip('-')}"


def class_name(kind: str, name: str) -> str:
    """``my_plugin`` is ``MyPlugin``; the kind follows where that is no name for a new class."""
    import msgm_bench

    camel = "".join(part[:1].upper() + part[1:] for part in re.split("[-_.]+", name))
    noun = kind.capitalize()
    if not camel[0].isalpha():
        camel = f"{noun}{camel}"
    public = NAMES | set(dir(msgm_bench)) | set(dir(builtins)) | set(keyword.kwlist)
    return f"{camel}{noun}" if camel in public else camel


def render(kind: str, name: str) -> dict[str, str]:
    """The files of a new plugin, by name."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("msgm_bench"),
        autoescape=False,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    module = distribution(name).replace("-", "_")
    is_command = kind not in KINDS
    values = {
        "kind": kind,
        "article": "An" if kind[0] in "aeiou" else "A",
        "name": name,
        "cls": class_name(kind, name),
        "module": module,
        "distribution": distribution(name),
        "group": COMMANDS_GROUP if is_command else GROUP,
        "entry_point": name if is_command else f"{kind}s.{name}",
        "target": f"{module}:command" if is_command else module,
    }
    templates = {
        "pyproject.toml": "pyproject.toml.j2",
        "README.md": "README.md.j2",
        f"{module}.py": f"{kind}.py.j2",
        f"test_{module}.py": "test_command.py.j2" if is_command else "test.py.j2",
    }
    return {
        file: environment.get_template(template).render(values)
        for file, template in templates.items()
    }
