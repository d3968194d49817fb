"""Scenes whose captions say where objects are: captions, prompts of places, and a tiny run."""

import cli_harness
import pytest
import torch

from msgm_bench import OptionError
from msgm_builtin.methods.anchors import anchored_text
from msgm_text.datasets.scenes import GRAIN, Scenes
from msgm_text.datasets.scenes_board import COLOURS, CONCEPTS, OBJECTS, PLACES, SHAPES, paint
from msgm_text.datasets.scenes_language import IMPLICIT, PLACE_ANCHORS, PLACE_SYNONYMS, SYNONYMS

WORDS = {name: {name} for name in CONCEPTS}
WORDS |= {synonym: {name} for name, synonym in SYNONYMS.items()}
WORDS |= {word: set(names) for names, word in IMPLICIT.items()}
WHERE = {place: i for i, place in enumerate(PLACES)}
WHERE |= {synonym: PLACES.index(place) for place, synonym in PLACE_SYNONYMS.items()}


def load(**options):
    """A small set of scenes with places."""
    return Scenes.create({"train_size": 2000, "test_size": 500, "places": True, **options}).load()


def objects_of(text):
    """Objects and cells (None: not named) that a text names, word by word."""
    objects = []
    for part in text.split(" and "):
        _, *words = part.split()
        cell = WHERE.get(" ".join(words[-2:]))
        shown = set().union(*(WORDS[word] for word in (words if cell is None else words[:-2])))
        (shape,) = shown & set(SHAPES)
        (colour,) = shown & set(COLOURS)
        objects.append((6 * SHAPES.index(shape) + COLOURS.index(colour), cell))
    return objects


def named(indices):
    """Names of concepts."""
    return {(*CONCEPTS, *PLACES)[i] for i in indices}


def test_captions_say_where_the_objects_of_the_items_are():
    """The board that a caption names is the item's, in each cell within the grain."""
    data = load()
    for x, y, c in zip(data.test.x, data.test.y, data.test.c.tolist(), strict=True):
        objects = objects_of(data.prompts[c].text)
        cells = [cell for _, cell in objects]
        if cells == [None]:
            cells = [int(y[12:].nonzero())]  # an object alone, whose place the item knows
        board = torch.full((1, 4), -1)
        board[0, cells] = torch.tensor([thing for thing, _ in objects])
        assert (x.float() - paint(board, 4)[0]).abs().max() <= GRAIN
        assert (y[12:] == (board[0] >= 0)).all()


def test_captions_ask_for_what_they_name():
    """Concepts of a caption are the objects' and the named places; an item has its place anyway."""
    data = load()
    for prompt in data.prompts:
        if prompt.group == "train":
            objects = objects_of(prompt.text)
            asked = {name for k, _ in objects for name in (SHAPES[k // 6], COLOURS[k % 6])}
            asked |= {PLACES[cell] for _, cell in objects if cell is not None}
            assert named(prompt.concepts) == asked
    occupied = data.train.y[:, 12:].sum(dim=1)
    assert ((occupied == 1) | (occupied == 2)).all()


def test_shares_of_named_places():
    """Both places of pairs, of single objects half, 20 % of these by a synonym; 20 % are equal."""
    data = load(train_size=16_000)
    texts = [data.prompts[c].text for c in data.train.c.tolist()]
    objects = [objects_of(text) for text in texts]
    pairs = [pair for pair in objects if len(pair) == 2]
    assert all(None not in (first[1], second[1]) for first, second in pairs)
    equal = sum(first[0] == second[0] for first, second in pairs) / len(pairs)
    assert equal == pytest.approx(0.2, abs=0.02)
    singles = [i for i, shown in enumerate(objects) if len(shown) == 1]
    placed = [texts[i] for i in singles if objects[i][0][1] is not None]
    assert len(placed) / len(singles) == pytest.approx(0.5, abs=0.04)
    synonym = sum(text.endswith(tuple(PLACE_SYNONYMS.values())) for text in placed)
    assert synonym / len(placed) == pytest.approx(0.2, abs=0.05)


def test_every_caption_has_an_item_and_no_text_stands_twice():
    """The captions are those of the items, each of them once."""
    data = load()
    used = torch.cat([data.train.c, data.test.c]).unique().tolist()
    captions = [i for i, prompt in enumerate(data.prompts) if prompt.group == "train"]
    assert used == captions
    assert len({data.prompts[i].text for i in captions}) == len(captions)


def test_without_places_the_book_is_that_of_the_board():
    """The digest that stands in the protocols of ``leaderboards/scenes-t2i-circle``."""
    book = Scenes().load().prompts
    assert book.digest == "d5d1088fa021c63492fa624584942d05f41d50cb51b1d3a853eacee00c8a8c6b"


@pytest.mark.parametrize("place", PLACES)
def test_every_place_can_be_forgotten(place):
    """Prompts of each group, all in known words, and of all shapes and colours."""
    book = load().prompts
    index = len(CONCEPTS) + PLACES.index(place)
    groups = book.groups([index])
    sizes = {"target": 6, "synonym": 6, "implicit": 0, "pair": 18, "neighbour": 18, "unrelated": 72}
    assert {name: len(rows) for name, rows in groups.items()} == {**sizes, "adversarial": 0}
    for name, rows in groups.items():
        kept = name in ("neighbour", "unrelated")
        assert all((index in book[i].concepts) is not kept for i in rows)
        assert all((place in book[i].text) == (name in ("target", "pair")) for i in rows)
        assert all(set(book[i].text.split()) <= set(book.words) for i in rows)
    for name in ("target", "synonym"):
        shown = {objects_of(book[i].text)[0] for i in groups[name]}
        assert {cell for _, cell in shown} == {PLACES.index(place)}
        assert (
            {thing // 6 for thing, _ in shown} == {thing % 6 for thing, _ in shown} == {*range(6)}
        )
    assert all(named([book[i].concept]) <= set(PLACES) for i in groups["neighbour"])
    assert not any(named([book[i].concept]) <= set(PLACES) for i in groups["unrelated"])
    assert book.anchor(index) in set(PLACES) - {place}
    assert set(PLACE_ANCHORS.values()) == set(PLACES)


def test_a_pair_of_a_place_differs_in_the_place_alone():
    """One object in two places; besides the place all is asked for that the other one shows."""
    book = load().prompts
    pairs = [p for p in book if p.group == "pair" and p.concept >= len(CONCEPTS)]
    assert len(pairs) == 4 * 18
    for prompt in pairs:
        (thing, cell), (other, away) = objects_of(prompt.text)
        assert thing == other
        assert cell != away
        assert prompt.concept - len(CONCEPTS) in (cell, away)
        own = {SHAPES[thing // 6], COLOURS[thing % 6]}
        assert named(prompt.concepts) == own | {PLACES[cell], PLACES[away]}


def test_a_pair_asks_for_the_other_object_in_its_place():
    """Shape, colour and place of the one without the concept; all 12 pairs of cells are used."""
    book, used = load().prompts, set()
    for prompt in book:
        if prompt.group == "pair" and prompt.concept < len(CONCEPTS):
            objects = objects_of(prompt.text)
            concept = CONCEPTS[prompt.concept]
            shown = [({SHAPES[k // 6], COLOURS[k % 6]}, cell) for k, cell in objects]
            own, other = sorted(shown, key=lambda item: concept not in item[0])
            assert concept in own[0] - other[0]
            rest = set(prompt.concepts) - {prompt.concept}
            assert named(rest) == other[0] | {PLACES[other[1]]}
            used.add((own[1], other[1]))
    assert used == {(i, j) for i in range(4) for j in range(4) if i != j}


def test_an_anchor_stands_in_the_place_of_a_place():
    """Its name is replaced; of a synonym the whole prompt is, by one that asks for the anchor."""
    book, index = load().prompts, len(CONCEPTS)
    for group in ("target", "synonym"):
        for i in book.groups([index])[group]:
            thing, _ = objects_of(book[i].text)[0]
            anchored = anchored_text(book, book[i], [index])
            assert objects_of(anchored) == [(thing, PLACES.index("top right"))]


def test_without_pairs_there_are_none_of_places():
    """Targets and synonyms of places are there."""
    book = load(pairs=0.0).prompts
    assert "pair" not in {prompt.group for prompt in book}
    assert len(book.groups([len(CONCEPTS)])["target"]) == 6


def test_an_unknown_place_is_an_error():
    """Which names what is allowed; without the option there are no places."""
    with pytest.raises(OptionError, match="no class 'middle'") as caught:
        load().targets(["middle"])
    assert all(place in caught.value.allowed for place in PLACES)
    with pytest.raises(OptionError, match="no class 'top left'"):
        load(places=False).targets(["top left"])


RUN = (
    *("run", "--dataset", "scenes", "-d", "places=true", "-d", "train_size=500"),
    *("-d", "test_size=500", "--backbone", "t2i", "--text", "-b", "text_offset=patch"),
    *("-b", "width=16", "-b", "heads=2", "-b", "text_width=16", "-b", "text_heads=2"),
    *("--steps", "2", "--samples", "20", "-t", "prompt_generation.nfe=2", "--device", "cpu"),
)
PLUGINS = (
    *("datasets.scenes", "backbones.t2i", "samplers.*", "methods.*", "tasks.prompt_generation"),
    *("judges.scenes", "metrics.concept_accuracy", "metrics.in_prompt", "trackers.*"),
)


@pytest.fixture
def small(monkeypatch, new_registry):
    """One task, its metrics, and no pictures."""
    monkeypatch.setenv("MSGM_BENCH_PLUGINS", ",".join(PLUGINS))
    monkeypatch.setattr("msgm_bench.report.run_folder._draw_pictures", cli_harness.draw_nothing)
    new_registry.cache_clear()


def test_a_place_is_forgotten_from_the_command_line(bench, cache, small, tmp_path):
    """Two steps of the base and UCE, which reads the name's last word, end with rows."""
    options = (*RUN, "--forget", "top left", "-b", "tokens=16")
    code, _, err = bench(*options, "--method", "standard", "--method", "uce")
    assert code == 0, err
    results = cli_harness.results(tmp_path / "runs")
    assert {method for method, _ in results} == {"standard", "uce"}
    for result in results.values():
        rows = {row["metric"]: row for row in result["metrics"]}
        assert {"ua", "ua_synonym", "ua_pair", "ira", "cra", "in_prompt_bound"} <= set(rows)
        assert (rows["ua"]["n"], rows["ira"]["n"], "ua_implicit" in rows) == (20, 20, False)
        assert [rows[name]["value"] for name in ("ua_floor", "ira_clean", "cra_clean")] == [
            0,
            100,
            100,
        ]


def test_prompts_with_places_need_a_longer_text_encoder(bench, cache, small):
    """Twelve tokens are one too few for a pair; the error says how to have more."""
    code, _, err = bench(*RUN, "--forget", "circle", "--method", "standard")
    assert code == 2
    assert "13 tokens" in err
    assert "-b tokens=N" in err


def test_a_place_that_is_none_stops_the_command(bench, cache, small):
    """Before anything is trained."""
    options = (*RUN, "-b", "tokens=16", "--method", "standard")
    code, _, err = bench(*options, "--forget", "middle")
    assert code == 2
    assert "no class 'middle'" in err
    assert "bottom right" in err


def test_all_objects_have_a_prompt_in_some_place():
    """The four diagonals of shapes and colours are 24 of the 36 objects, each of them once."""
    book = load().prompts
    rows = [p for p in book if p.group == "target" and p.concept >= len(CONCEPTS)]
    things = [objects_of(prompt.text)[0][0] for prompt in rows]
    assert len(set(things)) == len(things) == 24 < OBJECTS
