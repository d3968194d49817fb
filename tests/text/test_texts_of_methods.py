"""Prompts that methods and attacks add to the data's: tokenised before anything is trained."""

from __future__ import annotations

from dataclasses import replace

import pytest
from text_toy import trainer_of

from msgm_bench import OptionError
from msgm_bench.experiment.training_plan import check_forget_set
from msgm_bench.testing.toy_text import toy_captions, toy_text_model
from msgm_builtin.methods.erasediff import EraseDiff
from msgm_builtin.methods.salun import SalUn
from msgm_builtin.methods.sfd import SFD
from msgm_text.methods.ca import CA
from msgm_text.methods.uce import UCE
from msgm_text.tasks.prompt_attack import PromptAttack

OPTIONS = {
    CA: [{}, {"anchor": "low"}],
    UCE: [{"prompts": "concepts"}, {"prompts": "captions", "anchor": "low", "tokens": "all"}],
    SalUn: [{}, {"target": "anchor", "anchor": "low"}, {"target": "noise", "anchor": "dark"}],
    EraseDiff: [{}, {"anchor": "low"}],
    SFD: [{}, {"override": "low"}, {"safe_class": "random", "override": "dark"}],
}
ANCHOR = {SFD: "override"}
CHOICES = [(method, options) for method, choices in OPTIONS.items() for options in choices]


class RecordingTokenizer:
    """A tokenizer that remembers every prompt."""

    def __init__(self, tokenizer):
        self.tokenizer, self.texts = tokenizer, set()

    def __call__(self, texts):
        """Tokens of the prompts."""
        self.texts |= set(texts)
        return self.tokenizer(texts)


@pytest.mark.parametrize(("cls", "options"), CHOICES)
def test_a_method_reads_no_prompt_that_it_does_not_name(cls, options):
    """What its setup tokenises are the data's prompts, the empty one, and its ``texts``."""
    method = cls.create(options)
    session, data = trainer_of(method), toy_captions()
    named = {*method.texts(session.model, data, (0,)), *data.prompts.texts, ""}
    recording = RecordingTokenizer(session.model.prompts.tokenizer)
    session.model.conditioning.tokenizer = recording
    if session._base is not None:
        session.base.conditioning.tokenizer = recording
    method.setup(session)
    beginnings = {" ".join(t.split()[:n]) for t in named for n in range(len(t.split()))}
    assert recording.texts <= named | (beginnings if cls is UCE else set())


@pytest.mark.parametrize("anchor", ["dark", "a a a a low"])
@pytest.mark.parametrize("cls", list(OPTIONS))
def test_an_anchor_that_the_tokenizer_refuses_is_an_error(cls, anchor):
    """An unknown word, or too many words: the error names method, concept and prompt."""
    method = cls.create({ANCHOR.get(cls, "anchor"): anchor})
    with pytest.raises(OptionError, match=rf"method '{cls.name}' on top: .*{anchor}") as caught:
        check_forget_set(method, toy_text_model(), toy_captions(), (0,))
    assert "4 words of a, light" in caught.value.allowed


def test_anchors_that_are_not_used_are_not_read():
    """Targets and safe captions without anchors, and data that name none."""
    model, data = toy_text_model(), toy_captions()
    for method in (
        SalUn.create({"target": "noise", "anchor": "dark"}),
        SFD.create({"safe_class": "random", "override": "dark"}),
    ):
        assert list(method.texts(model, data, (0,))) == []
    bare = replace(data, prompts=replace(data.prompts, anchors={}))
    for cls in (SalUn, EraseDiff):
        assert list(cls.create().texts(model, bare, (0,))) == []


def test_words_of_an_attack_are_of_the_models_language():
    """The error names the unknown one."""
    model = toy_text_model()
    PromptAttack.create({"words": ["light", "the"]}).check(model)
    with pytest.raises(OptionError, match=r"prompt_attack, words: .*dark"):
        PromptAttack.create({"words": ["light", "dark"]}).check(model)
