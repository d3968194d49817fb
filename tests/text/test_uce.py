"""UCE against the minimiser of its quadratic, and the tokens that it reads."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from text_toy import ignore_progress, trainer_of

from msgm_bench import OptionError, Prompt, Prompts
from msgm_bench.testing import check_method
from msgm_bench.testing.toy_text import toy_captions, toy_prompts, toy_text_model
from msgm_bench.testing.toys import toy_model
from msgm_text.methods.subject_tokens import (
    embeddings,
    erased_tokens,
    last_token,
    preserved_tokens,
    subjects,
)
from msgm_text.methods.uce import UCE, editing_matrix
from msgm_text.methods.uce_options import UCEOptions

KEYS = ["unet.attn2.to_k.weight", "unet.attn2.to_v.weight"]


def run(folder, options=None, **trainer):
    """The trainer at the end of UCE."""
    session = trainer_of(UCE.create(options), **trainer)
    session.run(folder, ignore_progress)
    return session


@pytest.mark.parametrize("scales", [(0.5, 1.0, 1.0), (0.1, 2.0, 0.3), (3.0, 0.5, 4.0)])
def test_closed_form_is_the_minimiser_of_its_quadratic(scales):
    """Least squares on the stacked residuals, by torch's own solver, to 1e-6."""
    lamb, s_e, s_p = scales
    generator = torch.Generator().manual_seed(1)
    d, out = 8, 5
    c, c_star, others, W = (
        torch.randn(n, d, generator=generator, dtype=torch.float64) for n in (4, 4, 6, out)
    )
    roots = [value**0.5 for value in (lamb, s_e, s_p)]
    eye = torch.eye(d, dtype=torch.float64)
    rows = torch.cat([roots[0] * eye, roots[1] * c, roots[2] * others])
    values = torch.cat([roots[0] * W.T, roots[1] * c_star @ W.T, roots[2] * others @ W.T])
    expected = torch.linalg.lstsq(rows, values).solution.T
    options = UCEOptions(lamb=lamb, erase_scale=s_e, preserve_scale=s_p)
    actual = W @ editing_matrix(c, c_star, others, options)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("prompts", ["concepts", "captions"])
@pytest.mark.parametrize("tokens", ["last", "all"])
def test_a_run_ends_at_the_minimum(tmp_path, prompts, tokens):
    """Keys and values have no gradient of the quadratic; all other weights are the base's."""
    options = {"prompts": prompts, "tokens": tokens}
    before = {k: v.clone() for k, v in trainer_of(UCE.create()).model.network.state_dict().items()}
    session = run(tmp_path, options)
    book, prompts_of = session.prompt_book, session.model.prompts
    names = [Prompt(name, (i,), "target", i) for i, name in enumerate(book.concepts)]
    rows = names if prompts == "concepts" else [p for p in book if p.group == "train"]
    c, c_star = erased_tokens(
        prompts_of, book, [r for r in rows if 0 in r.concepts], (0,), "", tokens
    )
    p = preserved_tokens(prompts_of, book, [r for r in rows if 0 not in r.concepts], tokens)
    for name, weight in session.model.network.state_dict().items():
        if name not in KEYS:
            assert torch.equal(weight, before[name])
            continue
        W = before[name].double()
        new = weight.double().requires_grad_()
        loss = 0.5 * (new - W).square().sum() + (c @ new.T - c_star @ W.T).square().sum()
        (loss + (p @ new.T - p @ W.T).square().sum()).backward()
        torch.testing.assert_close(new.grad, torch.zeros_like(new), rtol=0, atol=1e-5)


def test_an_erased_name_reads_as_its_anchor(tmp_path):
    """With a small lambda and nothing preserved, W' c is W c*."""
    old = trainer_of(UCE.create()).model
    new = run(tmp_path, {"lamb": 1e-9, "preserve_scale": 0.0}).model
    c, c_star = embeddings(old.prompts, ["top", "middle"])[:, 1]
    for name in KEYS:
        W, W_new = (model.network.get_parameter(name).double() for model in (old, new))
        torch.testing.assert_close(W_new @ c, W @ c_star, rtol=0, atol=1e-5)


def test_tokens_of_a_name_by_hand():
    """``the top light`` is 0 the top light 1 1: token 2 is its name, and all from there follow."""
    torch.manual_seed(0)
    model, book = toy_text_model(), toy_prompts()
    caption = next(p for p in book if p.text == "the top light")
    E, E_star = embeddings(model.prompts, ["the top light", "the middle light"])
    c, c_star = erased_tokens(model.prompts, book, [caption], (0,), "", "last")
    assert torch.equal(c, E[2:3])
    assert torch.equal(c_star, E_star[2:3])
    c, c_star = erased_tokens(model.prompts, book, [caption], (0,), "", "all")
    assert torch.equal(c, E[2:])
    assert torch.equal(c_star, E_star[2:])
    whole = preserved_tokens(model.prompts, book, [caption], "all")
    assert torch.equal(whole, torch.cat([E, embeddings(model.prompts, [""])[0]]))


def test_an_anchor_of_several_words_ends_at_its_own_last_token():
    """``top`` against ``one low light``: c* is the anchor's last token, and rows end together."""
    torch.manual_seed(0)
    model, book = toy_text_model(), toy_prompts()
    name = Prompt("top", (0,), "target", 0)
    E, E_star = embeddings(model.prompts, ["top", "one low light"])
    c, c_star = erased_tokens(model.prompts, book, [name], (0,), "one low light", "all")
    assert torch.equal(c, E[1:4])
    assert torch.equal(c_star, E_star[3:])


def test_each_name_of_a_prompt_is_a_subject():
    """As far as each name, with the concepts named so far; the whole where none is named."""
    book = toy_prompts()
    both = Prompt("top the low", (0, 2), "pair", 0)
    assert [s.text for s in subjects(book, both, (0, 1, 2))] == ["top", "top the low"]
    assert [s.concepts for s in subjects(book, both, (0, 1, 2))] == [(0,), (0, 2)]
    assert [s.text for s in subjects(book, both, (2,))] == ["top the low"]
    assert subjects(book, both, (1,)) == [both]


class _Rows:
    """A tokenizer of letters: with a begin or not, an end, and another token to fill up or not."""

    def __init__(self, begin, end, fill):
        self.begin, self.end, self.fill = begin, end, fill

    def __call__(self, texts):
        rows = [[*self.begin, *map(ord, text), *self.end] for text in texts]
        return torch.tensor([(row + self.fill * 6)[:6] for row in rows])


@pytest.mark.parametrize("begin", [[], [1]])
@pytest.mark.parametrize(("end", "fill"), [([2], [2]), ([2], [0]), ([], [0])])
def test_the_last_token_of_any_tokenizer(begin, end, fill):
    """Position of the last letter, whatever begins, ends and fills up a row."""
    encoder = torch.nn.Embedding(200, 2)
    prompts = Prompts(["abc"], _Rows(begin, end, fill), encoder)
    for text in ("a", "ab", "abcde"[: 5 - len(begin)]):
        assert last_token(prompts, text) == len(begin) + len(text) - 1


def test_concepts_without_anchor_are_refused_before_anything_is_trained():
    """By name; an anchor of the option's is enough."""
    data = toy_captions()
    data = replace(data, prompts=replace(data.prompts, anchors={}))
    with pytest.raises(OptionError, match="top"):
        UCE.create().check_data(data, (0,))
    UCE.create({"anchor": "low"}).check_data(data, (0,))


def test_models_without_prompts_or_cross_attention_are_skipped():
    """Each with its reason."""
    assert "--text" in UCE.create().skip(toy_model(3), "finetune")
    model = toy_text_model()
    assert UCE.create().skip(model, "finetune") is None
    model.parts = {}
    assert "cross-attention" in UCE.create().skip(model, "finetune")


def test_conforms():
    """Killed after a layer, it ends with the same bits; the forget set matters."""
    check_method(UCE)
