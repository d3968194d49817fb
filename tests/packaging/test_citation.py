"""CITATION.cff names the papers that the plugins name."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from msgm_bench.registry import registry

ROOT = Path(__file__).parents[2]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
ARXIV = re.compile(r"arXiv:\d{4}\.\d{5}")


def test_fields():
    """What the format requires is there, and nobody but the maintainers is an author."""
    assert CITATION["cff-version"] == "1.2.0"
    assert CITATION["message"]
    assert CITATION["license"] == "MIT"
    assert CITATION["authors"] == [{"name": "msgm-bench maintainers"}]
    assert "version" not in CITATION, "the version stands in msgm_bench/__init__.py alone"
    for reference in CITATION["references"]:
        assert {"type", "title", "authors"} <= set(reference)


def test_references_are_the_plugins_papers():
    """The first paper that a method or backbone cites is among the references, and no other."""
    classes = [e.cls for kind in ("methods", "backbones") for e in registry().entries(kind)]
    papers = {paper for cls in classes for paper in ARXIV.findall(cls.citation)[:1]}
    identifiers = {x["value"] for r in CITATION["references"] for x in r["identifiers"]}
    assert identifiers == papers
