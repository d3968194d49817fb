"""Which source files the key of a stage depends on."""

from __future__ import annotations

import importlib
import sys

import pytest

from msgm_bench import Method
from msgm_bench.cache import fingerprint

LEAF = '"""A leaf."""\nVALUE = {value}\n'
WAYS = {
    "import": "import third_party_pack.leaf",
    "from module": "from third_party_pack.leaf import VALUE",
    "from package": "from third_party_pack import leaf",
    "relative module": "from .leaf import VALUE",
    "relative package": "from . import leaf",
}


@pytest.fixture
def pack(tmp_path, monkeypatch):
    """``pack(statement, value)`` is the hash of a plugin that imports a module of its package."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(fingerprint, "source_of", fingerprint.source_of.__wrapped__)
    folder = tmp_path / "third_party_pack"
    folder.mkdir()
    (folder / "__init__.py").write_text("")

    def build(statement, value):
        (folder / "leaf.py").write_text(LEAF.format(value=value))
        top = f"from msgm_bench import Method\n{statement}\n"
        (folder / "own.py").write_text(f"{top}\n\nclass Own(Method):\n    name = 'own'\n")
        importlib.invalidate_caches()
        for name in [name for name in sys.modules if name.startswith("third_party_pack")]:
            del sys.modules[name]
        own = importlib.import_module("third_party_pack.own").Own
        assert issubclass(own, Method)
        return fingerprint.plugin_source(own)

    yield build
    for name in [name for name in sys.modules if name.startswith("third_party_pack")]:
        del sys.modules[name]


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_changed_module_of_the_package_changes_the_hash(way, pack):
    """However it is imported; a module that nobody imports does not count."""
    first, again, other = pack(way, 1), pack(way, 1), pack(way, 22)
    assert first == again
    assert first != other
    assert pack("import math", 1) == pack("import math", 22)
