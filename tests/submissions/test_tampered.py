"""Submissions that were tampered with by somebody who knows the format: each is refused."""

from __future__ import annotations

import io
import json
import re
import stat
import warnings
import zipfile
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_submissions import PLUGINS, PROTOCOLS, exchanged, facts, honest, rewritten

from msgm_bench import MetricProtocol, MsgmBenchError
from msgm_bench.report.provenance import rerun_command
from msgm_bench.storage import dump_yaml
from msgm_bench.submissions import check, pack, unpack

METRICS = st.sampled_from(sorted(PROTOCOLS))


def value_changed(draw):
    """A value, the end of an interval or a count of a row is another."""
    rows = json.loads(honest().document)["metrics"]
    row = draw(st.integers(0, len(rows) - 1))
    field = draw(st.sampled_from(["value", "low", "high", "n"]))
    factor = draw(st.floats(0.01, 0.9) | st.floats(1.1, 3.0))
    old = rows[row][field]

    def change(document):
        new = (old or 0.0) * factor + factor
        document["metrics"][row][field] = round(new) + 1 + old if field == "n" else new

    return pack(rewritten(honest(), change))


def row_removed_or_renamed(draw):
    """A row is not there, or has another name, unit or direction."""
    row = draw(st.integers(0, len(honest().result.metrics) - 1))
    change = draw(st.sampled_from(["remove", "metric", "split", "unit", "direction"]))

    def edit(document):
        if change == "remove":
            del document["metrics"][row]
        else:
            old = document["metrics"][row][change]
            document["metrics"][row][change] = "none" if old == "up" else "up"

    return pack(rewritten(honest(), edit))


def evidence_of_another(draw):
    """Features, classes or values are those of another submission."""
    metric, seed = draw(METRICS), draw(st.integers(1, 5))
    other = next(shown for shown in honest("ort", seed).exhibits if shown.metric == metric)
    return pack(exchanged(honest(), metric, other.evidence.tensors))


def evidence_damaged(draw):
    """A tensor is missing, shorter, of another kind, or its numbers are others.

    Nothing rests on how many items are behind the reference, but that it is there.
    """
    metric = draw(METRICS)
    shown = next(shown for shown in honest().exhibits if shown.metric == metric)
    tensors = dict(shown.evidence.tensors)
    name = draw(st.sampled_from(sorted(tensors)))
    kind = draw(st.sampled_from(["missing", "shorter", "text", "changed"]))
    x = tensors[name]
    if kind == "missing" or (x.ndim == 0 and kind == "shorter") or name == "reference_n":
        del tensors[name]
    elif kind == "shorter":
        tensors[name] = x[: len(x) // 2]
    elif kind == "text":
        tensors[name] = x.bool() if x.dtype != torch.bool else x.float()
    elif x.dtype == torch.bool:
        tensors[name] = ~x
    elif x.dtype == torch.int64 and x.ndim:
        tensors[name] = (x != 1).long()  # of the class to forget is what was not
    else:
        tensors[name] = x + 1
    return pack(exchanged(honest(), metric, tensors))


def evidence_exchanged(draw):
    """Evidence of one metric stands for that of another."""
    first, second = draw(st.permutations(sorted(PROTOCOLS)))[:2]
    shown = {shown.metric: shown for shown in honest().exhibits}
    return pack(exchanged(honest(), first, shown[second].evidence.tensors))


def protocol_changed(draw):
    """A protocol has other settings, version or name, with the hash that it has then."""
    metric = draw(METRICS)
    kind = draw(st.sampled_from(["settings", "version", "name"]))
    old = PROTOCOLS[metric]
    new = {
        "settings": old.model_copy(update={"settings": old.settings | {"count": 7}}),
        "version": old.model_copy(update={"version": old.version + draw(st.integers(1, 9))}),
        "name": old.model_copy(update={"name": f"other-{old.name}"}),
    }[kind]
    assert isinstance(new, MetricProtocol)

    def change(document):
        del document["protocols"][old.id]
        document["protocols"][new.id] = {"hash": new.hash, "settings": new.settings}
        for row in document["metrics"]:
            row["protocol"] = new.id if row["protocol"] == old.id else row["protocol"]

    submission = rewritten(honest(), change)
    exhibits = tuple(
        replace(s, evidence=replace(s.evidence, protocol=new.id, settings=new.settings))
        if s.metric == metric
        else s
        for s in submission.exhibits
    )
    return pack(replace(submission, exhibits=exhibits))


def other_code(draw):
    """A plugin of other code under the same name, or of no code at all."""
    name = draw(st.sampled_from([*PLUGINS, "methods/obt"]))
    digest = draw(st.none() | st.from_regex("[0-9a-f]{64}", fullmatch=True))
    needless = name.startswith("embedders/")

    def change(document):
        code = document["provenance"]["code"]
        if digest is None and not needless:
            del code[name]
        else:
            code[name] = digest or "0" * 64

    return pack(rewritten(honest(), change))


def another_run(draw):
    """Request, command and result agree on a run that is not the board's."""
    changes = draw(
        st.sampled_from(
            [
                {"dataset": "digits"},
                {"backbone": "vpsde"},
                {"forget": ("left",)},
                {"preset": "full"},
                {"regime": "finetune"},
                {"conditional": True},
                {"passes": 100},
            ]
        )
    )
    spec = honest().spec.model_copy(update=changes)

    def change(document):
        document["provenance"]["command"] = rerun_command(spec)
        for key, value in changes.items():
            if key == "passes":
                document["spec"]["settings"]["training"] = changes
            else:
                document["spec"][key] = list(value) if key == "forget" else value
            for kind in ("dataset", "backbone"):
                code = document["provenance"]["code"]
                code.setdefault(f"{kind}s/{document['spec'][kind]}", "0" * 64)

    request = dump_yaml(spec.model_dump(mode="json", exclude_defaults=True))
    return pack(replace(rewritten(honest(), change), spec=spec, request=request))


def request_changed(draw):
    """The request is of another seed, method, size or command than the result."""
    changes = draw(
        st.sampled_from([{"seed": 1}, {"method": "ort"}, {"steps": 9}, {"samples": 9}])
        | st.fixed_dictionaries(
            {"params": st.dictionaries(st.sampled_from(["alpha"]), st.floats(0, 0.4), min_size=1)}
        )
    )
    spec = honest().spec.model_copy(update=changes)
    request = dump_yaml(spec.model_dump(mode="json", exclude_defaults=True))
    return pack(replace(honest(), spec=spec, request=request))


def record_changed(draw):
    """An option of the record is not what the request makes it."""
    place = draw(
        st.sampled_from(
            [
                ("params", "alpha"),
                ("backbone_params", "width"),
                ("settings", "pass_items"),
                ("settings", "training", "learning_rate"),
                ("settings", "tasks", "generation", "count"),
                ("settings", "judge", "gate"),
                ("settings", "new"),
                ("dataset_params", "train_size"),
            ]
        )
    )
    value = draw(st.integers(2, 9)) / 10 + 0.03  # no value of the record

    def change(document):
        part = document["spec"]
        for name in place[:-1]:
            part = part[name]
        part[place[-1]] = 7 if place[-1] in ("pass_items", "count") else value

    return pack(rewritten(honest(), change))


def stamp_changed(draw):
    """A stamp is invented, or is gone where the accuracy of the judge misses its gate."""
    is_below = draw(st.booleans())
    row = draw(st.integers(0, len(honest().result.metrics) - 1))

    def change(document):
        if is_below:
            document["provenance"]["judge"]["accuracy"] = draw(st.floats(0, 0.89))
        else:
            document["metrics"][row]["stamp"] = draw(st.text(min_size=1))

    return pack(rewritten(honest(), change))


def report_changed(draw):
    """The report of the judge has no such accuracy, or one of another judge."""
    value = draw(st.sampled_from([-1, 5.0, 0.92, 1.0, "x", ["x"], {}]))

    def change(document):
        document["provenance"]["judge"]["accuracy"] = value

    return pack(rewritten(honest(), change))


def protocol_unused(draw):
    """A protocol of no row, or with a name that no metric makes."""
    old = draw(st.sampled_from(sorted(PROTOCOLS.values(), key=lambda protocol: protocol.name)))
    name = draw(st.sampled_from(["evil/x@9", "@2", f"{old.name}@02", f"{old.name}@٢", "nll/<b>@2"]))

    def change(document):
        document["protocols"][name] = document["protocols"][old.id]

    return pack(rewritten(honest(), change))


def text_flooded(draw):
    """A remark is longer than any that a metric makes."""
    row = draw(st.integers(0, len(honest().result.metrics) - 1))

    def change(document):
        document["metrics"][row]["reason"] = "x" * draw(st.integers(10_001, 10**6))

    return pack(rewritten(honest(), change))


def bytes_changed(draw):
    """The archive is cut off, or a byte is another."""
    content = pack(honest())
    at = draw(st.integers(0, len(content) - 1))
    if draw(st.booleans()):
        return content[:at]
    return content[:at] + bytes([content[at] ^ draw(st.integers(1, 255))]) + content[at + 1 :]


def file_changed(draw):
    """A file is another than the manifest says, is missing, or there is one more."""
    files = files_of(pack(honest()))
    name = draw(st.sampled_from(sorted(files)))
    kind = draw(st.sampled_from(["edit", "remove", "add"]))
    if kind == "edit":
        files[name] += b" "
    elif kind == "remove":
        del files[name]
    else:
        files["evidence/more.json"] = b"{}"
    if kind == "edit" and name == "manifest.json":
        files[name] = files[name].replace(b"submission@1", b"submission@2")
    return zipped(sorted(files.items()))


def hostile_archive(draw):
    """A path that climbs out, a link, a double, a bomb."""
    members = [*files_of(pack(honest())).items()]
    kind = draw(st.sampled_from(["climb", "link", "double", "bomb", "code"]))
    where = draw(st.integers(0, len(members)))
    climb = draw(st.sampled_from(["../x.json", "/x.json", "a/../../x.json", "..\\x.json"]))
    if kind == "bomb":
        return zipped([*members, ("evidence/bomb.json", bytes(10**6))], zipfile.ZIP_DEFLATED)
    if kind == "link":
        return zipped(members, mode=stat.S_IFLNK | 0o777)
    name = {"climb": climb, "double": "result.json", "code": "evidence/run.py"}[kind]
    return zipped([*members[:where], (name, b"{}"), *members[where:]])


def files_of(content):
    """The members of an archive."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(members, compress=zipfile.ZIP_STORED, mode=stat.S_IFREG | 0o644):
    """An archive of any members, packed as ``pack_files`` would if it took them."""
    target = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(target, "w") as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr, info.compress_type = 3, mode << 16, compress
            archive.writestr(info, content)
    return target.getvalue()


REASONS = {
    value_changed: "is recomputed|values cannot be|no valid result",
    row_removed_or_renamed: "follow|of no row|no row is by|is recomputed|values cannot be|"
    "no valid result",
    evidence_of_another: "gives other rows",
    evidence_damaged: "gives other rows|is missing|items|is (bool|float|int)|covariances|targets|"
    "its evidence|nothing follows|differ in shape|'features' is",
    evidence_exchanged: "is missing|'values' is|gives other rows",
    protocol_changed: "does not compare|later version|no installed metric",
    other_code: "other code|which code",
    another_run: "does not belong to this board|other code|does not compare|makes another run",
    request_changed: "its request has|its command is not",
    record_changed: "makes another run|its request has",
    stamp_changed: "has the stamp",
    report_changed: "its judge has the|its judge's report says nothing|its judge is right on",
    protocol_unused: "it has the protocol|no row is by its protocol|hash of|name@version",
    text_flooded: "its remark has",
    bytes_changed: "cannot be read",
    file_changed: "not in its place|its hash differs|has no |is not understood|manifest",
    hostile_archive: "no plain path|is a link|stands twice|is compressed|is no file of",
}


def test_the_honest_one_is_recomputed():
    """What the tampered ones are made of is not refused, and all its rows follow."""
    assessment = check(unpack(pack(honest()), "x.zip"), facts())
    assert assessment.level(facts().board) == assessment.level() == "recomputed"
    assert assessment.recomputed == {row.key for row in honest().result.metrics}
    assert not assessment.notes


@settings(max_examples=500)
@given(st.sampled_from(sorted(REASONS, key=lambda tamper: tamper.__name__)), st.data())
def test_each_of_500_tampered_submissions_is_refused(tamper, data):
    """Whatever was changed, and however well the hashes were mended, the reason is named."""
    content = tamper(data.draw)
    with pytest.raises(MsgmBenchError) as refused:
        check(unpack(content, "x.zip"), facts())
    assert re.search(REASONS[tamper], str(refused.value)), str(refused.value)
