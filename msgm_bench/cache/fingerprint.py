"""Hashes of data and of source code, for the keys of stages."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

from msgm_bench.api import Data, Plugin, digest


def data_fingerprint(data: Data) -> str:
    """SHA-256 over every byte of both splits, class names, protocol, flips, regions and prompts."""
    sha = hashlib.sha256()
    captions = [part.c for part in (data.train, data.test) if part.c is not None]
    for tensor in (data.train.x, data.train.y, data.test.x, data.test.y, *captions):
        sha.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        sha.update(tensor.contiguous().cpu().numpy().reshape(-1).view("uint8").data)
    facts = [data.classes, data.levels, data.protocol, data.nll_offset]
    regions = [dict(data.regions)] if data.regions else []
    prompts = [] if data.prompts is None else [data.prompts.digest]
    sha.update(digest([*facts, *(["flip"] * data.flip), *regions, *prompts]).encode())
    return sha.hexdigest()


@functools.cache
def source_of(*modules: str) -> str:
    """SHA-256 of the code of ``modules`` (packages with all that is in them).

    Comments, docstrings and layout do not count: they change no number.
    """
    sha = hashlib.sha256()
    for module in modules:
        for path in _files(module):
            sha.update(path.name.encode())
            sha.update(_code(path.read_text(encoding="utf-8")).encode())
    return sha.hexdigest()


def plugin_source(cls: type[Plugin]) -> str:
    """Hash of the plugin's module and of the modules of its own package that it imports."""
    return source_of(*sorted(_closure(cls.__module__)))


def _files(module: str) -> list[Path]:
    """Source files of a module, or of a package with all that is in it."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return []
    path = Path(spec.origin)
    return sorted(path.parent.glob("**/*.py")) if path.name == "__init__.py" else [path]


def _closure(module: str, modules: set[str] | None = None) -> set[str]:
    """``module`` and all modules of its own package that it imports, directly or not."""
    modules = {module} if modules is None else modules
    for name in _imports(module):
        if name not in modules:
            modules.add(name)
            _closure(name, modules)
    return modules


def _imports(module: str) -> Iterator[str]:
    """Modules of the same top-level package that ``module`` imports, or imports from."""
    top = module.partition(".")[0]
    loaded = sys.modules.get(module)
    path = getattr(loaded, "__file__", None)
    if path is None:
        return
    package = module if hasattr(loaded, "__path__") else module.rpartition(".")[0]
    for node in _import_statements(Path(path).read_text(encoding="utf-8")):
        yield from (name for name in _imported_names(node, package) if name.startswith(f"{top}."))


@functools.cache
def _import_statements(text: str) -> tuple[ast.Import | ast.ImportFrom, ...]:
    """All import statements of a module's text, those inside functions, too."""
    nodes = ast.walk(ast.parse(text))
    return tuple(node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom))


def _imported_names(node: ast.Import | ast.ImportFrom, package: str) -> list[str]:
    """Absolute names of the modules of an import statement in ``package``."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    source = "." * node.level + (node.module or "")
    source = importlib.util.resolve_name(source, package) if node.level else source
    inner = (f"{source}.{alias.name}" for alias in node.names)
    return [source, *(name for name in inner if name in sys.modules)]


@functools.cache
def _code(text: str) -> str:
    """Syntax tree of a module's text, without docstrings; many plugins import the same modules."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_docstring(body[0]):
            body[:1] = []
    return ast.dump(tree)


def _is_docstring(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
