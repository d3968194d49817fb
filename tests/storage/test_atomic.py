"""Files that are whole or not there, whoever is killed and whatever the umask."""

from __future__ import annotations

import multiprocessing
import os
import signal
import stat

import pytest
import torch
from safetensors.torch import save_file

from msgm_bench.storage import atomic_write, claim, take_lease, write_text

CONTEXT = multiprocessing.get_context("fork")


def die_while_writing(path):
    """Write half of a file, and something a library would leave beside it; then be killed."""
    with atomic_write(path) as temporary:
        temporary.write_text("half")
        temporary.with_name(".tmpXyZ").write_text("a library's own")
        os.kill(os.getpid(), signal.SIGKILL)


def killed(function, *arguments):
    """A process that was killed in ``function``."""
    process = CONTEXT.Process(target=function, args=arguments)
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    process.close()


@pytest.mark.parametrize("name", ["samples.png", ".hidden", "x" * 250, "ünïcødé [a].json", "-"])
def test_litter_is_swept_at_the_next_attempt(name, tmp_path):
    """A killed process leaves its temporary folder; who writes the same file removes it."""
    path = tmp_path / name
    killed(die_while_writing, path)
    assert len(list(tmp_path.iterdir())) == 1
    write_text(path, "whole")
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    assert path.read_text() == "whole"


def test_the_living_are_not_swept(tmp_path):
    """Two writers of one file: neither takes the other's temporary folder away."""
    path = tmp_path / "file"
    with atomic_write(path) as first:
        first.write_text("first")
        write_text(path, "second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_names_of_others_are_left_alone(tmp_path):
    """Only what has the form of a temporary folder of this very file is swept."""
    others = [".file-0123", ".file-0123456g", ".files-01234567", "file-01234567", ".-01234567"]
    for name in others:
        (tmp_path / name).mkdir()
    write_text(tmp_path / "file", "whole")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([*others, "file"])


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002, 0o027])
@pytest.mark.parametrize("how", ["text", "tensors"])
def test_the_umask_is_obeyed(mask, how, tmp_path):
    """A file has the permissions that any program's new file would have, whoever writes it."""
    path, before = tmp_path / "folder" / "file", os.umask(mask)
    try:
        if how == "text":
            write_text(path, "text")
        else:
            with atomic_write(path) as temporary:
                save_file({"a": torch.zeros(2)}, temporary)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o777 & ~mask


def test_a_block_that_fails_leaves_what_was_there(tmp_path):
    """An error inside keeps the old file and no new one."""
    path = tmp_path / "file"
    write_text(path, "old")
    with pytest.raises(ZeroDivisionError), atomic_write(path) as temporary:
        temporary.write_text(str(1 / 0))
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_link_is_replaced_not_followed(tmp_path):
    """Writing where a link stands does not write through it."""
    (tmp_path / "outside").write_text("mine")
    (tmp_path / "file").symlink_to(tmp_path / "outside")
    write_text(tmp_path / "file", "new")
    assert (tmp_path / "outside").read_text() == "mine"
    assert not (tmp_path / "file").is_symlink()


def test_leases(tmp_path):
    """Many hold one file, nobody can claim it then; who claims it keeps others out."""
    path = tmp_path / "file"
    assert take_lease(path) is None
    path.write_text("")
    held = [take_lease(path), take_lease(path)]
    with claim(path) as free:
        assert not free
    for descriptor in held:
        os.close(descriptor)
    with claim(path) as free:
        assert free
        assert take_lease(path) is None
        path.unlink()
    with claim(path) as free:
        assert free, "what is not there is nobody's"
