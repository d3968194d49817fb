"""Names of run folders: one short part of a path for whatever was asked for."""

from pathlib import PurePosixPath

from hypothesis import given
from hypothesis import strategies as st

from msgm_bench import RunSpec

NAMES = st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,63}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def spec(**values):
    """A request."""
    fields = {"dataset": "celeba", "forget": ("bangs",), "backbone": "vpsde", "method": "obt"}
    return RunSpec(**fields | values)


@given(NAMES, st.lists(TEXTS, min_size=1), NAMES, NAMES, st.integers(0, 2**63 - 2), st.booleans())
def test_a_run_folder_is_one_short_name(dataset, forget, backbone, method, seed, conditional):
    """Below 255 bytes with a base's hash, visible, and another for another request."""
    values = {"dataset": dataset, "forget": tuple(forget), "backbone": backbone, "method": method}
    name = spec(**values, seed=seed, conditional=conditional).folder
    assert PurePosixPath(name).name == name
    assert len(name.encode()) + 9 <= 255
    assert not name.startswith((".", "-"))
    assert not set(name) & set('/\\:*?"<>|\n\r\t \0')
    assert spec(**values, seed=seed + 1, conditional=conditional).folder != name
    assert spec(**values, seed=seed, conditional=not conditional).folder != name


def test_long_lists():
    """Eighteen attributes of CelebA, and seven classes of 42 letters: two names, both short."""
    names = tuple(f"Attribute_{i}" for i in range(18))
    assert spec(forget=names).folder != spec(forget=names[::-1]).folder
    long = tuple(f"{i}{'x' * 41}" for i in range(7))
    for forget in (names, long):
        assert len(spec(forget=forget).folder) < 100


def test_names_that_people_choose_stay_readable():
    """What is forgotten, by which method, on what, can be read."""
    assert spec(forget=("Bangs", "Wavy Hair")).folder.startswith("celeba-bangs+wavy_hair-vpsde-obt")
