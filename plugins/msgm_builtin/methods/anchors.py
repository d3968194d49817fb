"""Prompts in which an anchor stands in the place of a forgotten concept."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from msgm_bench import Data, Model, OptionError, Prompt, PromptBook, Prompts, Session


def anchored_prompts(session: Session, model: Model, anchor: str = "") -> Prompts:
    """The prompts of ``model``, those of D_f with the anchor in the place of the concept.

    Indices are those of the model's prompts, and the null condition is theirs.

    Args:
        session: Its prompts and concepts to forget.
        model: The session's model or its base, whose encoder embeds the prompts.
        anchor: The anchor of every concept; empty: the prompts' own anchors.

    Raises:
        OptionError: A concept has no anchor, or a prompt is too long with it.
    """
    texts = anchored_texts(session.prompt_book, session.forget_concepts, anchor)
    return Prompts(texts, model.prompts.tokenizer, model.prompts.encoder)


def check_anchors(data: Data, targets: Sequence[int], anchor: str = "") -> None:
    """Refuse concepts that have no anchor, or are their own.

    Raises:
        OptionError: The prompts name none, and ``anchor`` is empty; or it is blank, or the concept.
    """
    if data.prompts is None:
        return
    for target in targets:
        name, word = data.prompts.concepts[target], anchor or data.prompts.anchor(target)
        if not word.strip() or name_pattern(name).fullmatch(word.strip()):
            raise OptionError(
                f"the anchor {word!r} of the concept {name!r}",
                "another text, which is drawn in the place of the concept",
            )


def texts_with_anchors(data: Data, targets: Collection[int], anchor: str = "") -> list[str]:
    """The texts that ``anchored_prompts`` has in the place of those of D_f."""
    if data.prompts is None:
        return []
    wanted = [prompt for prompt in data.prompts if set(targets) & set(prompt.concepts)]
    return [anchored_text(data.prompts, prompt, targets, anchor) for prompt in wanted]


def anchored_texts(book: PromptBook, targets: Collection[int], anchor: str = "") -> list[str]:
    """The text of each prompt with the anchors of ``targets``; other texts as they are."""
    return [anchored_text(book, prompt, targets, anchor) for prompt in book]


def anchored_text(
    book: PromptBook, prompt: Prompt, targets: Collection[int], anchor: str = ""
) -> str:
    """The text of a prompt with the anchors of those of its concepts that are ``targets``.

    Names of concepts are replaced. Where a name is not in the text, which has a synonym or asks
    without a name, another prompt stands for it: the first one whose concepts are those of the
    prompt with the anchor for the concept. The anchor by itself does where there is none.
    """
    text, names = prompt.text, book.concepts
    anchors = {c: anchor or book.anchor(c) for c in prompt.concepts if c in targets}
    for target, word in anchors.items():
        text, count = name_pattern(names[target]).subn(word.replace("\\", r"\\"), text)
        if not count:
            concepts = {anchors.get(c, names[c]) for c in prompt.concepts}
            return _prompt_of(book, concepts) or word
    return text


def _prompt_of(book: PromptBook, concepts: set[str]) -> str | None:
    """The first prompt that asks for exactly ``concepts``; None if no prompt does."""
    names = book.concepts
    return next((p.text for p in book if {names[c] for c in p.concepts} == concepts), None)


def name_pattern(name: str) -> re.Pattern[str]:
    """Matches the name of a concept as words of a text, whatever its case and its hyphens."""
    gap = r"[-_\s]+"
    words = gap.join(re.escape(word) for word in re.split(gap, name))
    return re.compile(rf"(?<!\w){words}(?!\w)", re.IGNORECASE)
