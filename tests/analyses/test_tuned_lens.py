"""Training and solving lenses, on a decoder whose last blocks are exactly linear."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from layerscope.analyses.lenses.translators import AffineLens, LogitLens
from layerscope.analyses.lenses.tuned_lens import TunedLensFit, fit_affine, fit_tuned
from layerscope.analyses.material.texts import as_texts, residuals
from layerscope.hooks.unembed import Unembed
from layerscope.planted.linear_end import MIXED, VOCAB, WIDTH, linear_end


@pytest.fixture(scope="module")
def planted() -> nn.Module:
    return linear_end()


@pytest.fixture(scope="module")
def texts(planted):
    generator = torch.Generator().manual_seed(1)
    ids = [torch.randint(VOCAB, (12,), generator=generator) for _ in range(60)]
    return as_texts(planted, [x.tolist() for x in ids])


def mean_kl(model: nn.Module, texts, lens) -> list[float]:
    """KL(final || lens) at every residual, by plain torch."""
    decode = torch.no_grad()(Unembed(model))
    states = torch.cat([residuals(model, ids).flatten(1, 2) for _, ids in texts.batches(10**6)], 1)
    final = decode(states[-1]).log_softmax(-1)
    found = []
    for layer, part in enumerate(states):
        own = decode(lens(part, layer)).log_softmax(-1)
        found.append(float((final.exp() * (final - own)).sum(-1).mean()))
    return found


def test_the_least_squares_lens_is_exact_where_the_rest_is_linear(planted, texts) -> None:
    fit, test = texts.split(0.3, seed=0)
    plain = mean_kl(planted, test, LogitLens())
    solved = mean_kl(planted, test, fit_affine(planted, fit, ridge=1e-12, progress=False))
    assert max(solved[MIXED:]) < 1e-9
    assert min(solved[:MIXED]) > 0.02  # the tokens that follow are mixed in later
    assert min(plain[:-1]) > 0.1
    assert plain[-1] == solved[-1] == 0


def test_the_tuned_lens_gets_there_by_training(planted, texts) -> None:
    fit, test = texts.split(0.3, seed=0)
    plain = mean_kl(planted, test, LogitLens())
    lens = fit_tuned(planted, fit, steps=300, tokens=200, rate=6.0, progress=False)
    tuned = mean_kl(planted, test, lens)
    assert max(tuned[MIXED:]) < 2e-3 < 0.02 * min(plain[MIXED:-1])
    assert min(tuned[:MIXED]) > 0.02
    assert all(after <= before for after, before in zip(tuned, plain, strict=True))


def test_before_training_it_is_the_logit_lens(planted, texts) -> None:
    decode = Unembed(planted)
    fit = TunedLensFit(decode, 4, WIDTH + 1, steps=1)
    states = residuals(planted, next(texts.batches(100))[1]).flatten(1, 2)
    for layer, part in enumerate(states):
        assert torch.equal(decode(fit.result()(part, layer)), decode(part))


def test_one_step_is_nesterov_with_decay_and_clipping(planted, texts) -> None:
    """Against torch.optim.SGD on the same loss."""
    states = residuals(planted, next(texts.batches(100))[1]).flatten(1, 2)
    decode = Unembed(planted)
    fit = TunedLensFit(decode, 4, WIDTH + 1, steps=3, rate=5.0)
    weight = torch.zeros(4, WIDTH + 1, WIDTH + 1, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(4, WIDTH + 1, dtype=torch.float64, requires_grad=True)
    theirs = torch.optim.SGD([weight, bias], lr=0.5, momentum=0.9, nesterov=True, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(theirs, lambda step: 1 - step / 3)
    final = decode(states[-1]).log_softmax(-1).detach()
    for _ in range(3):
        fit.update(states)
        theirs.zero_grad()
        losses = [
            nn.functional.kl_div(
                decode(h + h @ weight[i].T + bias[i]).log_softmax(-1),
                final.exp(),
                reduction="batchmean",
            )
            for i, h in enumerate(states[:-1])
        ]
        torch.stack(losses).sum().backward(inputs=[weight, bias])
        nn.utils.clip_grad_norm_([weight, bias], 1.0)
        theirs.step()
        schedule.step()
        torch.testing.assert_close(
            fit.losses[-1].double(), torch.stack(losses).detach(), rtol=1e-4, atol=1e-6
        )
    torch.testing.assert_close(fit.weight.double(), weight.detach(), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(fit.bias.double(), bias.detach(), rtol=1e-3, atol=1e-6)


def test_the_model_is_untouched_and_the_seed_decides(planted, texts) -> None:
    before = {name: p.clone() for name, p in planted.named_parameters()}
    state = torch.random.get_rng_state()
    one, two = (fit_tuned(planted, texts, steps=3, tokens=64, seed=4, progress=False) for _ in "ab")
    other = fit_tuned(planted, texts, steps=3, tokens=64, seed=5, progress=False)
    assert torch.equal(one.weight, two.weight)
    assert not torch.equal(one.weight, other.weight)
    assert torch.equal(torch.random.get_rng_state(), state)
    for name, parameter in planted.named_parameters():
        assert parameter.grad is None, name
        assert torch.equal(parameter, before[name]), name


def test_a_small_budget_gives_the_same_step(planted, texts) -> None:
    states = residuals(planted, next(texts.batches(100))[1]).flatten(1, 2)
    whole, parts = (
        TunedLensFit(Unembed(planted), 4, WIDTH + 1, steps=1, budget=budget).update(states)
        for budget in (10**9, 4000)
    )
    torch.testing.assert_close(parts.weight, whole.weight)
    torch.testing.assert_close(parts.losses[0], whole.losses[0])


def test_refusals(planted, texts) -> None:
    with pytest.raises(ValueError, match="at least 1 step, not 0"):
        fit_tuned(planted, texts, steps=0, progress=False)
    fit = TunedLensFit(Unembed(planted), 4, WIDTH + 1, steps=1)
    with pytest.raises(ValueError, match=r"takes residuals \[5, rows, 7\], got \[4, 10, 7\]"):
        fit.update(torch.zeros(4, 10, 7))
    with pytest.raises(ValueError, match="loss is not finite at step 0"):
        fit.update(torch.full((5, 3, 7), torch.nan, dtype=torch.float64))


def test_the_random_stack_has_a_lens_too(gpt2, tokenizer, sentences) -> None:
    texts = as_texts(gpt2, sentences, tokenizer=tokenizer)
    lens = fit_affine(gpt2, texts, progress=False)
    assert isinstance(lens, AffineLens)
    assert lens.weight.shape == (3, 16, 16)
    assert lens.about["rows"] == texts.tokens


def test_fitted_saved_and_used(planted, tmp_path) -> None:
    from layerscope.analyses.lens import lens
    from layerscope.analyses.lenses.lens_fitting import fit_lens

    ids = torch.randint(VOCAB, (30, 12), generator=torch.Generator().manual_seed(1))
    fitted = fit_lens(planted, ids[:20], kind="affine", ridge=1e-12, progress=False)
    again = AffineLens.load(fitted.save(tmp_path / "lens.safetensors"))
    assert again.about["rows"] == 240
    assert again.about["model"].startswith("LlamaForCausalLM")
    found = lens(planted, ids[20:], kind=again, twin=False, progress=False)
    # Single precision maps of double precision states.
    assert found.curve("kl_final_lens")["value"].iloc[MIXED:].max() < 1e-9
    with pytest.raises(ValueError, match="kind 'logit' is not fitted"):
        fit_lens(planted, ids, kind="logit")  # type: ignore[arg-type]
