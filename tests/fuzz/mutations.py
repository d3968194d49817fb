"""Ways in which a file is wrong: bytes, values, nesting, and what is no file at all."""

from __future__ import annotations

import contextlib
import copy
import json
import os
from pathlib import Path
from random import Random

import yaml

from msgm_bench.api.result import MetricProtocol, Result

ODD = [
    *(None, True, False, 0, 1, -1, 2, 3_000_000_000, 10**30, -(10**30), 1e308, -0.0, 1e-320),
    *("", " ", "~", "NaN", "x" * 5_000, "../../outside", "/etc/passwd", "/dev/zero", "a\0b"),
    *("\x1b[31mred", "[bold]x[/bold]", "N/A [/unknown]", "`|<b>", "\u202eabc", "\ud800", "::"),
    *([], {}, [[]], [None], {"a": 1}, ["x"] * 2_000),
]


def nested(depth: int) -> list:
    """``depth`` lists, one inside the other."""
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


def spoil(content: bytes, kind: str, random: Random) -> bytes:
    """``content`` with something wrong in it: in its values where ``kind`` has any, or bytes."""
    if kind in ("json", "yaml", "result") and random.random() < 0.7:
        return _values(content, kind, random)
    if kind == "safetensors" and random.random() < 0.7:
        return _header(content, random)
    return _bytes(content, random)


def _values(content: bytes, kind: str, random: Random) -> bytes:
    value = yaml.safe_load(content) if kind == "yaml" else json.loads(content)
    value = _edited(copy.deepcopy(value), random)
    if kind == "result" and random.random() < 0.8:
        value = signed(value)
    text = json.dumps(value) if kind != "yaml" or random.random() < 0.5 else yaml.safe_dump(value)
    if random.random() < 0.1:  # numbers that JSON does not have
        text = (
            text.replace(": 0.", ": NaN, 0.", 1)
            if kind == "yaml"
            else text.replace("1", "1e999", 1)
        )
    return text.encode("utf-8", "surrogatepass")


def signed(document: dict) -> dict:
    """A result with the digests of what it holds now, as anybody can compute them."""
    with contextlib.suppress(Exception):
        for key, record in document["protocols"].items():
            name, _, version = key.partition("@")
            protocol = MetricProtocol(name=name, version=version, settings=record["settings"])
            record["hash"] = protocol.hash
        plain = {key: part for key, part in document.items() if key not in ("schema", "digest")}
        document = document | {"digest": Result(**plain).digest}
    return document


def _header(content: bytes, random: Random) -> bytes:
    """Another header before the same bytes."""
    length = int.from_bytes(content[:8], "little")
    header = json.dumps(_edited(json.loads(content[8 : 8 + length]), random)).encode()
    size = random.choice([len(header), len(header), 2**40, 0])
    return size.to_bytes(8, "little") + header + content[8 + length :]


def _edited(value: object, random: Random) -> object:
    """``value`` with one or a few of its parts replaced, taken out, renamed or doubled."""
    for _ in range(random.choice([1, 1, 1, 2, 5])):
        places = list(_places(value))
        if not places:
            return copy.deepcopy(random.choice(ODD))
        parent, key = random.choice(places)
        action = random.random()
        if action < 0.6:
            parent[key] = copy.deepcopy(random.choice([*ODD, nested(40), nested(300)]))
        elif action < 0.75:
            del parent[key]
        elif action < 0.85 and isinstance(parent, dict):
            parent[random.choice(["x", "", "exported", "../x", "__class__"])] = parent.pop(key)
        elif isinstance(parent, list):
            parent.extend([parent[key]] * random.choice([1, 50]))
        else:
            parent["further"] = copy.deepcopy(parent[key])
    return value


def _places(value: object):
    """Every (container, key) in ``value``."""
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    else:
        return
    for key, part in items:
        yield value, key
        yield from _places(part)


def _bytes(content: bytes, random: Random) -> bytes:
    start = random.randrange(len(content) + 1)
    length = random.choice([1, 4, 64, 1024])
    piece = bytes(random.choice([0, 255, random.randrange(256)]) for _ in range(length))
    return random.choice(
        [
            content[:start],
            content[:start] + piece + content[start:],
            content[:start] + piece + content[start + length :],
            content[:start] + content[start + length :],
            content + content[start:],
            content[::-1],
            b"",
        ]
    )


def replace_file(path: Path, random: Random) -> str:
    """Something that is no regular file of this folder in the place of ``path``; its name."""
    path.unlink()
    what = random.choice(["pipe", "zero", "outside", "loop", "folder", "missing", "sparse"])
    if what == "pipe":
        os.mkfifo(path)
    elif what == "zero":
        path.symlink_to("/dev/zero")
    elif what == "outside":
        path.symlink_to("/etc/passwd")
    elif what == "loop":
        path.symlink_to(path)
    elif what == "folder":
        path.mkdir()
    elif what == "sparse":
        with path.open("wb") as file:
            file.truncate(2**34)
    return what
