"""Emoji: drawings of a font, captions in Unicode's names, concepts from their words."""

from pathlib import Path

import matplotlib
import pytest
import torch
from emoji_font import write_font, write_names
from hypothesis import given
from hypothesis import strategies as st

from msgm_bench import OptionError, StorageError
from msgm_bench.testing import check_dataset
from msgm_text.datasets.emoji import FONT, NAMES, SHARE, TEST_EVERY, TOKENS, EmojiDrawings, held_out
from msgm_text.datasets.emoji_drawings import EmojiFont
from msgm_text.datasets.emoji_names import caption_of, read_names

SHADES = ("red", "green", "blue", "pink", "grey", "white", "black", "brown")
FRUIT = [f"{shade} fruit" for shade in SHADES]
CARS = [f"{shade} car" for shade in SHADES]
TREES = [f"tree: no. {i}" for i in range(8)]
ROWS = [
    *((chr(0x1F600 + i), name, "Food & Drink") for i, name in enumerate(FRUIT)),
    *((chr(0x1F610 + i), name, "Travel & Places") for i, name in enumerate((*CARS, *TREES))),
    ("\U0001f600\U0001f610", "red fruit in red car", "Travel & Places"),
    *((chr(0x1F630 + i), f"sign {word}", "Symbols") for i, word in enumerate("abcdefgh")),
]
LIGATURE = ("\U0001f600", "\U0001f610", "\U0001f640")
COLOURS = {
    character: (37 * i % 256, 91 * i % 256, 50 + 4 * i)
    for i, character in enumerate([*(row[0] for row in ROWS if len(row[0]) == 1), LIGATURE[2]])
}


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """Options of a small dataset: fruit, cars, trees and signs."""
    folder = tmp_path_factory.mktemp("emoji")
    return {
        "font": str(write_font(folder / FONT, COLOURS, [LIGATURE])),
        "names": str(write_names(folder / NAMES, ROWS)),
        "resolution": 8,
        "concepts": ("fruit", "car", "tree"),
    }


def test_a_small_font_passes_the_kit(options):
    """Drawings, captions and prompts of 33 emoji keep the contract."""
    check_dataset(EmojiDrawings, options)


def test_items_are_the_drawings_of_their_names(options):
    """Each item has the colour of its character's drawing, in the order of the names."""
    data = EmojiDrawings.create(options).load()
    parts = (data.train, data.test)
    c, x = torch.cat([part.c for part in parts]), torch.cat([part.x for part in parts])
    assert len(x) == len(ROWS)
    drawing = {caption_of(name): COLOURS.get(c, COLOURS[LIGATURE[2]]) for c, name, _ in ROWS}
    for caption, image in zip(c.tolist(), x, strict=True):
        colour = torch.tensor(drawing[data.prompts[caption].text], dtype=torch.uint8)
        assert torch.equal(image[:, 3:5, 3:5], colour[:, None, None].expand(3, 2, 2))


def test_concepts_are_words_of_the_captions(options):
    """Red fruit in a red car is both; domains are Unicode's groups; every eighth is held out."""
    data = EmojiDrawings.create(options).load()
    book = data.prompts
    both = next(prompt for prompt in book if prompt.text == "red fruit in red car")
    assert both.concepts == (0, 1)
    assert book.domains == {"Food & Drink": ("fruit",), "Travel & Places": ("car", "tree")}
    assert book.anchors == {"fruit": "tree", "car": "tree", "tree": "car"}
    assert data.counts() == {"fruit": (8, 1), "car": (8, 1), "tree": (7, 1)}
    assert len(data.test) == 4


def test_options_are_in_the_name_of_the_protocol(options):
    """Values on other drawings are of another protocol, wherever the files lie."""
    protocol = EmojiDrawings.create(options).load().protocol
    assert protocol == "emoji/every-eighth+resolution=8+concepts=fruit,car,tree@1"


def test_prompts_of_a_concept(options):
    """The word alone and seven captions; the other concept of its domain is its neighbour."""
    book = EmojiDrawings.create(options).load().prompts
    groups = {name: [book[i] for i in rows] for name, rows in book.groups([1]).items()}
    texts = [prompt.text for prompt in groups["target"]]
    assert texts[0] == "car"
    assert len(set(texts)) == len(texts) == 8
    assert all("car" in text.split() for text in texts)
    assert {book.concepts[prompt.concept] for prompt in groups["neighbour"]} == {"tree"}
    assert {book.concepts[prompt.concept] for prompt in groups["unrelated"]} == {"fruit"}


def test_variants_in_skin_tones_are_an_option(tmp_path, options):
    """Names with a skin tone are read unless the option forbids it."""
    rows = [*ROWS, (LIGATURE[2], "fruit: dark skin tone", "Food & Drink")]
    changed = {**options, "names": str(write_names(tmp_path / NAMES, rows))}
    without = EmojiDrawings.create({**changed, "skin_tones": False}).load()
    data = EmojiDrawings.create(changed).load()
    assert len(data.train) + len(data.test) == len(without.train) + len(without.test) + 1
    assert "fruit dark skin tone" in data.prompts.texts
    assert "fruit dark skin tone" not in without.prompts.texts


def test_emoji_that_the_font_lacks_are_left_out_and_counted(tmp_path, options):
    """An unknown character, and a sequence that is two drawings, are remarked on."""
    rows = [*ROWS, ("\U0001fa00", "new thing", "Objects"), ("\U0001f611\U0001f612", "cars", "x")]
    data = EmojiDrawings.create(
        {**options, "names": str(write_names(tmp_path / NAMES, rows))}
    ).load()
    assert data.remarks == (f"the font lacks 2 of {len(rows)} emoji",)
    assert not {"new thing", "cars"} & set(data.prompts.texts)


@pytest.mark.parametrize(
    ("name", "caption"),
    [
        ("grinning face", "grinning face"),
        ("flag: Côte d’Ivoire", "flag cote divoire"),
        ("T-Rex", "t rex"),
        ("keycap: 10", "keycap 1 0"),
        ("1st place medal", "1 st place medal"),
        ("keycap: #", "keycap hash"),
        ("keycap: *", "keycap asterisk"),
        ("Japanese “free of charge” button", "japanese free of charge button"),
    ],
)
def test_names_become_plain_words(name, caption):
    """Accents and signs go, digits stand alone."""
    assert caption_of(name) == caption


@given(st.integers(1, 400), st.integers(0, 2**31))
def test_held_out_takes_every_eighth_of_each_stratum(size, seed):
    """An eighth of the items without a concept, and of those that count for each concept."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.rand(size, 3, generator=generator) < torch.tensor([0.1, 0.3, 0.5])
    counts = y.sum(dim=0).tolist()
    strata = {}
    for i, row in enumerate(y.tolist()):
        own = [k for k in range(3) if row[k]]
        strata.setdefault(min(own, key=lambda k: (counts[k], k), default=None), []).append(i)
    expected = {i for own in strata.values() for i in own[TEST_EVERY - 1 :: TEST_EVERY]}
    assert set(held_out(y).nonzero().flatten().tolist()) == expected


def test_missing_files_name_the_packages(monkeypatch, tmp_path):
    """Without the font the error says which packages bring it, and which options name it."""
    monkeypatch.setattr("msgm_text.datasets.emoji.SHARE", tmp_path)
    monkeypatch.delenv("MSGM_BENCH_DATA", raising=False)
    monkeypatch.setattr("msgm_builtin.datasets.files.user_folder", lambda: tmp_path / "user")
    with pytest.raises(StorageError) as error:
        EmojiDrawings.create({"download": False}).load()
    message = str(error.value)
    for part in (FONT, NAMES, "fonts-noto-color-emoji", "unicode-data", "-d font=PATH"):
        assert part in message


def test_a_path_that_is_not_there_is_named(options):
    """The error names the path of the option."""
    with pytest.raises(StorageError, match=r"nowhere\.ttf"):
        EmojiDrawings.create({**options, "font": "/tmp/nowhere.ttf"}).load()


def test_files_are_searched_in_the_data_folder(tmp_path, options):
    """Both files lie in a folder that the user names."""
    for name in ("font", "names"):
        path = Path(options[name])
        (tmp_path / path.name).write_bytes(path.read_bytes())
    there = {k: v for k, v in options.items() if k not in ("font", "names")}
    data = EmojiDrawings.create({**there, "data_dir": str(tmp_path)}).load()
    assert len(data.train) + len(data.test) == len(ROWS)


def outline_font():
    """A font of outlines that comes with matplotlib."""
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


def test_fonts_without_colour_bitmaps_are_refused(tmp_path):
    """Outlines, text, and bitmaps of another size are no drawings of emoji."""
    with pytest.raises(StorageError, match="no colour bitmaps"):
        EmojiFont(outline_font())
    (tmp_path / "text.ttf").write_text("no font\n" * 30)
    with pytest.raises(StorageError, match="no colour bitmaps"):
        EmojiFont(tmp_path / "text.ttf")
    with pytest.raises(StorageError, match="109 px"):
        EmojiFont(write_font(tmp_path / "small.ttf", COLOURS, size=64))


@given(st.data())
def test_a_damaged_font_is_an_error_or_lacks_drawings(tmp_path_factory, options, data):
    """Whatever is cut off or changed: a StorageError, or a drawing, or none."""
    content = bytearray(Path(options["font"]).read_bytes())
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=8)):
        content[position] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.ttf"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        drawing = EmojiFont(path).draw("\U0001f600", 8)
    except StorageError:
        return
    assert drawing is None or drawing.shape == (3, 8, 8)


@given(st.text(max_size=300))
def test_lists_of_other_texts_are_errors_or_names(tmp_path_factory, text):
    """Whatever a file says: a StorageError, or emoji with captions of plain words."""
    path = tmp_path_factory.getbasetemp() / "names.txt"
    path.write_text(text + "\n1F600 ; fully-qualified # x E1.0 " + text, encoding="utf-8")
    try:
        emoji = read_names(path)
    except StorageError:
        return
    assert all(caption_of(item.caption) == item.caption for item in emoji)


def test_a_list_without_emoji_is_an_error(tmp_path):
    """The error says which package has the list."""
    (tmp_path / NAMES).write_text("# group: Smileys\n1F600 ; component # x E1.0 hair\n")
    with pytest.raises(StorageError, match="unicode-data"):
        read_names(tmp_path / NAMES)
    (tmp_path / NAMES).write_text("110000 ; fully-qualified # x E1.0 beyond\n")
    with pytest.raises(StorageError, match="names no emoji"):
        read_names(tmp_path / NAMES)


@pytest.mark.parametrize("concepts", [("fruit", "boat"), ("fruit", "in")])
def test_rare_and_unknown_words_are_no_concepts(options, concepts):
    """A concept needs eight names; the error lists words that have them."""
    with pytest.raises(OptionError, match=r"fruit, car"):
        EmojiDrawings.create({**options, "concepts": concepts}).load()


def test_one_concept_is_too_few(options):
    """Nothing could be kept."""
    with pytest.raises(OptionError, match="concepts"):
        EmojiDrawings.create({**options, "concepts": ("fruit",)})


@pytest.mark.skipif(
    not EmojiDrawings().located().keys() >= {FONT, NAMES},
    reason="needs fonts-noto-color-emoji and unicode-data",
)
def test_the_packaged_font_draws_what_unicode_lists():
    """Nearly all listed emoji are drawn, yellow faces are yellow, and captions fit t2i's tokens."""
    data = EmojiDrawings().load()
    assert len(data.train) + len(data.test) > 3600
    assert max(len(text.split()) for text in data.prompts.texts) + 2 <= TOKENS
    faces = data.train.x[data.train.y[:, data.classes.index("face")]].double()
    assert faces[:, 0].mean() > faces[:, 2].mean() + 50
    assert SHARE.is_dir()
