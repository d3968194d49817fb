"""Folders of exports that were killed: swept, restored or deleted by the next export."""

from __future__ import annotations

import pytest

from msgm_bench.report.export import finish_interrupted, replace_folder
from msgm_bench.storage import take_lease, temporary_folder


@pytest.fixture
def target(tmp_path):
    """A folder with an earlier export."""
    folder = tmp_path / "exported"
    folder.mkdir()
    (folder / "file").write_text("earlier")
    return folder


def names(folder):
    """Names of the entries of a folder."""
    return sorted(path.name for path in folder.iterdir())


def test_a_temporary_folder_is_swept_by_the_next(target):
    """The folder of a killed process goes when the next export to the same place begins."""
    (target.parent / ".exported-0123abcd").mkdir()
    (target.parent / ".exported-0123abcd" / "half").write_text("")
    (target.parent / ".others-0123abcd").mkdir()
    with temporary_folder(target):
        assert ".exported-0123abcd" not in names(target.parent)
    assert names(target.parent) == [".others-0123abcd", "exported"]


def test_a_temporary_folder_in_use_stays(target):
    """The folder of a living process stays."""
    with temporary_folder(target) as first, temporary_folder(target) as second:
        assert first.is_dir()
        assert second != first
    assert names(target.parent) == ["exported"]


def test_a_folder_is_replaced(target):
    """The new folder takes the target's name, and nothing else is left."""
    with temporary_folder(target) as work:
        (work / "file").write_text("new")
        replace_folder(work, target)
    assert (target / "file").read_text() == "new"
    assert names(target.parent) == ["exported"]


def test_a_kill_between_two_renames_loses_nothing(target):
    """The earlier export, moved away and not replaced, comes back."""
    work = target.parent / ".exported-0123abcd"
    work.mkdir()
    target.rename(target.with_name(f"{work.name}-old"))
    finish_interrupted(target)
    assert (target / "file").read_text() == "earlier"
    assert names(target.parent) == [work.name, "exported"]


def test_a_kill_after_both_renames_leaves_the_new_export(target):
    """The earlier export goes where the new one is in its place."""
    old = target.with_name(".exported-0123abcd-old")
    old.mkdir()
    (old / "file").write_text("older")
    finish_interrupted(target)
    assert (target / "file").read_text() == "earlier"
    assert names(target.parent) == ["exported"]


def test_a_running_export_is_left_alone(target):
    """What a living process has moved away is neither restored nor deleted."""
    work = target.parent / ".exported-0123abcd"
    work.mkdir()
    old = target.with_name(f"{work.name}-old")
    target.rename(old)
    lease = take_lease(work)
    assert lease is not None
    finish_interrupted(target)
    assert old.is_dir()
    assert not target.exists()
