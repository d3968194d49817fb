"""A third-party plugin that fails while it is loaded is quarantined, and nothing else is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from cli_harness import tiny

from msgm_bench import quarantine
from msgm_bench.api import Plugin
from msgm_bench.cli import main
from msgm_bench.errors import OptionError, PluginError
from msgm_bench.quarantine import errors_of, quarantined, reason_of
from msgm_bench.registry import MAX_CLASSES

HEAD = "from msgm_bench import LossMethod, Method, Dataset, hookimpl, dsm_loss\n"
SOUND = """
class {cls}(LossMethod):
    '''Sound.'''
    name = {name}
    needs = frozenset({{"retain"}})
    def loss(self, model, batches, step):
        return dsm_loss(model, batches.retain)
"""
REGISTER = """
@hookimpl
def register_methods():
    return [{cls}]
"""


def method(name, cls="Mine", more=""):
    """Source of a plugin whose method's name is the expression ``name``."""
    return HEAD + SOUND.format(cls=cls, name=name) + more + REGISTER.format(cls=cls)


PROPERTY = """
class Odd(type):
    @property
    def {attribute}(cls):
        raise LookupError('not to be had')
class Mine(LossMethod, metaclass=type('Both', (Odd, type(LossMethod)), {{}})):
    '''Odd.'''
    {name}
    def loss(self, model, batches, step):
        return 0
"""
HOSTILE = {
    "raises a BaseException": ("class Own(BaseException): pass\nraise Own('no')", "Own: no"),
    "raises KeyboardInterrupt": ("raise KeyboardInterrupt('mine')", "KeyboardInterrupt: mine"),
    "raises GeneratorExit": ("raise GeneratorExit", "GeneratorExit"),
    "raises what cannot be shown": (
        "class Own(Exception):\n    def __str__(self):\n        raise SystemExit\nraise Own",
        "Own, whose message cannot be shown",
    ),
    "escapes in the reason": (
        "raise RuntimeError('\\x1b[2J\\x1b]0;owned\\x07 and\\nmore')",
        "RuntimeError: \\x1b[2J\\x1b]0;owned\\x07 and more",
    ),
    "an endless reason": ("raise RuntimeError('ab' * 10_000)", "abab ..."),
    "a name that is no text": (method("3"), "the name of Mine is 3"),
    "a name that is a path": (method("'../../etc'"), "the name of Mine is '../../etc'"),
    "a name of capitals": (method("'Mine'"), "allowed: a to z, 0 to 9"),
    "a name of 65 letters": (method("65 * 'x'"), "at most 64 of them"),
    "a name with escapes": (method("'a\\x1b[31m'"), "the name of Mine is 'a\\x1b[31m'"),
    "a name with a line break": (method("'mine\\n'"), "the name of Mine is 'mine\\n'"),
    "no name": (HEAD + SOUND.format(cls="Mine", name="None") + REGISTER.format(cls="Mine"), "None"),
    "a name that raises": (
        HEAD + PROPERTY.format(attribute="name", name="") + REGISTER.format(cls="Mine"),
        "LookupError: not to be had",
    ),
    "options that raise": (
        HEAD
        + PROPERTY.format(attribute="options_type", name="name = 'mine'")
        + REGISTER.format(cls="Mine"),
        "LookupError: not to be had",
    ),
    "options that are none": (
        method("'mine'", more="Mine.options_type = 3\n"),
        "the options of 'mine' are 3",
    ),
    "presets that are none": (
        method("'mine'", more="Mine.presets = 3\n"),
        "presets of 'mine' is 3",
    ),
    "a hook that yields and raises": (
        HEAD + "@hookimpl\ndef register_methods():\n    yield from ()\n    raise OSError('disk')",
        "OSError: disk",
    ),
    "a hook without an end": (
        HEAD + "import itertools\n@hookimpl\ndef register_methods():\n    return itertools.count()",
        f"register_methods returned more than {MAX_CLASSES} classes",
    ),
    "a hook that returns nothing": (
        HEAD + "@hookimpl\ndef register_methods():\n    pass",
        "register_methods returned None allowed: a list of classes",
    ),
    "a class of another kind": (
        HEAD + "@hookimpl\ndef register_methods():\n    return [Dataset]",
        "allowed: subclasses of Method",
    ),
    "a class that is not finished": (
        HEAD
        + "class Mine(Method):\n    name = 'mine'\n@hookimpl\ndef register_methods():\n"
        + "    return [Mine]",
        "Mine, which lacks update",
    ),
    "two classes of one name": (
        method("'mine'", more=SOUND.format(cls="Other", name="'mine'")).replace(
            "return [Mine]", "return [Mine, Other]"
        ),
        "two classes named 'mine'",
    ),
    "a repr that raises": (
        HEAD
        + "class Own:\n    def __repr__(self):\n        raise SystemExit(3)\n@hookimpl\n"
        + "def register_methods():\n    return [Own()]",
        "SystemExit: 3",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_plugins_are_quarantined(case, third_party, new_registry):
    """Each is left out with its reason, on one line that a terminal shows as it is."""
    source, reason = HOSTILE[case]
    third_party("third-party-one", source, "third_party.broken")
    third_party("third-party-two", method("'sound'", "Sound"), "third_party.sound")
    (broken,) = new_registry().broken
    assert broken.provenance.entry_point == "third_party.broken"
    assert reason in broken.reason
    assert broken.reason.isprintable()
    assert len(broken.reason) < 600
    assert {"sound", "obt"} <= set(new_registry().names("methods"))
    assert "mine" not in new_registry().names("methods")


def test_a_hostile_plugin_stops_no_command(third_party, new_registry, fast, cache, bench, tmp_path):
    """A run beside it goes well, and JSON stays JSON."""
    source = "import os\nprint('hello')\nos.write(1, b'hello')\nraise BaseException('no')"
    third_party("third-party-one", source, "third_party.broken")
    code, out, err = bench(*tiny("--json", out=tmp_path / "runs"))
    assert code == 0, err
    assert json.loads(out)["status"] == "ok"


def test_what_is_printed_at_import_goes_to_stderr(third_party, new_registry, capfd):
    """By print, by descriptor and by a child process; stdout is the program's."""
    source = "import os\nprint('one')\nos.write(1, b'two')\nos.system('echo three')\n"
    third_party("third-party-one", source + method("'mine'"), "third_party.loud")
    assert new_registry().broken == []
    told = capfd.readouterr()
    assert told.out == ""
    assert all(word in told.err for word in ("one", "two", "three"))
    sys.stdout.write("after")
    os.write(1, b"wards")
    assert capfd.readouterr().out == "afterwards", "stdout is where it was"


CHATTY = """
    def skip(self, model, regime):
        print('one')
    def transform_gradients(self, model):
        import os
        print('two')
        os.write(1, b'three')
        os.system('echo four')
    @classmethod
    def summary(cls):
        print('five')
        return 'Loud.'
"""


def test_what_plugins_print_while_they_work_is_not_in_the_json(
    third_party, fast, cache, tmp_path, capfd
):
    """In a run, its plan, a forecast and a list: stdout holds one document, by descriptor too."""
    third_party("third-party-one", method("'mine'", more=CHATTY), "third_party.loud")
    run = tiny("--json", method="mine", out=tmp_path / "runs")
    cell = [*run[1 : run.index("--out")], "--json"]
    words = {"list": ["five"], "run": ["one", "two", "three", "four"], "info": ["one", "two"]}
    for command in (["list", "methods", "--json"], run, ["info", *cell]):
        capfd.readouterr()
        assert main.call(command) == 0
        told = capfd.readouterr()
        assert json.loads(told.out)
        assert all(word in told.err for word in words[command[0]])


def test_ctrl_c_still_stops(third_party, new_registry):
    """A real SIGINT while a plugin is imported ends the program, and is no fault of the plugin."""
    third_party("third-party-one", "import os, signal\nos.kill(os.getpid(), 2)", "third_party.slow")
    with pytest.raises(KeyboardInterrupt):
        new_registry()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_another_handler_is_left_alone(monkeypatch):
    """Where the program handles SIGINT itself, nothing is held back."""
    before = signal.signal(signal.SIGINT, lambda *told: None)
    try:
        with pytest.raises(KeyboardInterrupt), quarantined():
            raise KeyboardInterrupt
    finally:
        signal.signal(signal.SIGINT, before)


def test_reasons_of_any_exception():
    """The type and the message, nothing that moves a cursor."""
    assert reason_of(ValueError("a\tb\u202ec")) == "ValueError: a b\\u202ec"
    assert reason_of(ZeroDivisionError()) == "ZeroDivisionError:"


@pytest.mark.parametrize("name", ["obt", "0", "a.b-c_d", 64 * "x"])
def test_names_that_are_allowed(name):
    """Letters, digits, dots, dashes, underscores."""
    assert quarantine.checked_name(name, "it") == name
    assert type("Named", (Plugin,), {"name": name}).validate() is None


@pytest.mark.parametrize("name", ["", "-a", ".a", "_a", "A", "é", "a b", "a/b", "a\n", b"a", None])
def test_names_that_are_not(name):
    """Anything else is refused, with what is allowed."""
    with pytest.raises(PluginError, match="allowed: a to z"):
        type("Named", (Plugin,), {"name": name}).validate()


# Commands of plugins -----------------------------------------------------------------------

COMMANDS = """
import click
@click.command()
def command():
    '''Say hello.'''
    click.echo("hello")
number = 3
"""


def install_command(place, source, **commands):
    """A distribution with commands of its own."""
    (place / "third_party_commands.py").write_text(source, encoding="utf-8")
    info = place / "third_party_commands-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: third-party-commands\nVersion: 1.2\n"
    )
    lines = [f"{name} = third_party_commands:{attribute}" for name, attribute in commands.items()]
    text = "\n".join(["[msgm_bench.commands]", *lines, ""])
    (info / "entry_points.txt").write_text(text, encoding="utf-8")


def test_a_command_of_a_plugin(third_party, bench, tmp_path):
    """It is listed and runs; its name is what a name may be."""
    third_party("third-party-one", "", "third_party.none")
    install_command(tmp_path / "site", COMMANDS, hello="command", **{"H\x1b[31m": "command"})
    assert bench("hello")[:2] == (0, "hello\n")
    out = bench("--help")[1]
    assert "hello" in out
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise BaseException('no licence')", "BaseException: no licence"),
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("command = 3", "is int, no click command"),
        ("", "AttributeError"),
    ],
)
def test_a_broken_command(source, reason, third_party, bench, tmp_path):
    """Calling it says why it cannot be; help, completion and other commands do not mind."""
    third_party("third-party-one", "", "third_party.none")
    install_command(tmp_path / "site", source, hello="command")
    code, out, err = bench("hello")
    assert code == 1
    assert out == ""
    assert "the command 'hello' from third-party-commands is broken" in err
    assert reason in err
    assert "Traceback" not in err
    assert bench("--help")[0] == 0
    assert bench("list", "samplers")[0] == 0
    context = main.cli.make_context("msgm-bench", [], resilient_parsing=True)
    assert main.cli.get_command(context, "hello") is None


def test_help_loads_no_plugin():
    """The guard that commands are loaded with is light."""
    source = "import sys, msgm_bench.cli.main; print('torch' in sys.modules)"
    told = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True
    )
    assert told.stdout == "False\n"


def test_errors_of_a_plugin_name_it():
    """An unexpected exception becomes a PluginError with the owner; the project's own stay."""
    owner, reason = "method 'mine', skip", "^method 'mine', skip: ZeroDivisionError: none"
    with pytest.raises(PluginError, match=reason), errors_of(owner):
        raise ZeroDivisionError("none")
    with pytest.raises(OptionError, match="alpha"), errors_of(owner):
        raise OptionError("alpha")
    with pytest.raises(KeyboardInterrupt), errors_of(owner):
        raise KeyboardInterrupt
