"""``check`` gives one verdict a point, whatever becomes of the others."""

from __future__ import annotations

import json

import pytest

import msgm_bench
from msgm_bench.testing.kits import KITS

MOODY = '''
from pydantic import Field

from msgm_bench import Embedder, Options, hookimpl


class MoodyOptions(Options):
    """How fast they change."""

    scale: float = Field(1.0, gt=0, description="of the change")


class Moody(Embedder[MoodyOptions]):
    """Features that change from call to call, and with the batch."""

    name = "moody"
    calls = 0

    def embed(self, x):
        """Pixels, plus the number of the call."""
        print("embedding")
        self.calls += 1
        return x.flatten(1) + self.options.scale * self.calls


class Dead(Embedder):
    """Raises what is no error."""

    name = "dead"

    def embed(self, x):
        """Ends the program."""
        raise SystemExit(3)


class Weightless(Moody):
    """Its weights are not here."""

    name = "weightless"

    def missing_weights(self, judge):
        """Always."""
        return "weights.pt is not here"


@hookimpl
def register_embedders():
    """Three."""
    return [Moody, Dead, Weightless]
'''


@pytest.fixture
def moody(third_party):
    """The embedders above, installed."""
    third_party("third-party-moody", MOODY, "embedders.moody")


def verdicts(out):
    """Status and reason of every check, by name."""
    return {
        check["name"]: (check["status"], check["reason"]) for check in json.loads(out)["checks"]
    }


def test_it_goes_on_after_a_failure(moody, bench):
    """Two points fail, each with its sentence; those after and before have verdicts too."""
    code, out, _ = bench("check", "embedders", "moody", "--json")
    assert code == 1
    found = verdicts(out)
    assert found["features"] == ("passed", "")
    assert found["repeatability"] == ("failed", "moody: features change from call to call")
    assert found["batch"][0] == "failed"
    assert found["protocol"] == ("passed", "")
    assert list(found) == [check.name for check in KITS["embedders"].checks]


def test_the_text_has_one_line_a_check(moody, bench):
    """What the plugin prints is not among them; the last line counts."""
    code, out, _ = bench("check", "embedder", "moody", "-p", "scale=1e-30")
    assert code == 0
    head, _, *lines, _, last = out.splitlines()
    assert head == "embedder moody, from third-party-moody 1.2 (third_party_moody)"
    assert [line.split()[0] for line in lines].count("passed") == 6
    assert last == "6 passed, 0 failed, 1 skipped"


def test_whatever_it_raises_is_a_verdict(moody, bench):
    """A SystemExit of the plugin ends a check and not the command."""
    code, out, _ = bench("check", "embedder", "dead", "--json")
    assert code == 1
    assert verdicts(out)["features"] == ("failed", "SystemExit: 3")
    assert verdicts(out)["protocol"][0] == "passed"


def test_what_is_not_here_skips_with_the_reason(moody, bench):
    """Without weights the class alone is looked at, and nothing fails."""
    code, out, _ = bench("check", "embedder", "weightless", "--json")
    assert code == 0
    assert verdicts(out)["declaration"][0] == "passed"
    assert verdicts(out)["features"] == ("skipped", "weights.pt is not here")


def test_a_broken_plugin_and_unknown_names(third_party, bench):
    """Each is refused before any check, with what is known."""
    third_party("third-party-broken", "import nowhere_at_all", "methods.broken")
    for arguments, sentence in (
        (("method", "broken"), "methods.broken is broken and not loaded"),
        (("method", "obtt"), "did you mean 'obt'?"),
        (("mehod", "obt"), "unknown kind 'mehod' (did you mean 'method'?)"),
        (("method", "obt", "-p", "wieght=1"), "no option 'wieght'"),
    ):
        code, out, err = bench("check", *arguments)
        assert code == 2
        assert sentence in err
        assert not out


@pytest.mark.parametrize(
    ("kind", "name"),
    [("tracker", "jsonl"), ("sampler", "one_step"), ("judge", "bayes"), ("dataset", "gaussians")],
)
def test_built_in_plugins_pass(kind, name, bench):
    """Without options, as a user types it; one-step generators and points included."""
    code, out, err = bench("check", kind, name)
    assert code == 0, out + err


def test_checks_have_names_of_their_own():
    """Within a kit no two checks share a name, and all describe what holds."""
    for kit in KITS.values():
        names = [check.name for check in kit.checks]
        assert len(set(names)) == len(names)
        assert all(check.description for check in kit.checks)


def test_public_names_come_up():
    """``dir`` has every name that can be imported, and each of them can."""
    public = msgm_bench.__all__
    assert {"LossMethod", "hookimpl", "run", "wilson", "atomic_write", "VariancePreserving"} <= set(
        public
    )
    assert set(public) <= set(dir(msgm_bench))
    assert all(getattr(msgm_bench, name) is not None for name in public)
