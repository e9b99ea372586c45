"""Extraction: the right vector in the right row, whatever the batch, and what it refuses."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from layerscope.corpus import read
from layerscope.hooks.capture import capture
from layerscope.hooks.extract import extract
from layerscope.store import Store, StoreMismatch

CONLLU = """# newdoc id = d1
# sent_id = s1
# text = Dogs chase cats.
1\tDogs\tdog\tNOUN\tNNS\tNumber=Plur\t2\tnsubj\t_\t_
2\tchase\tchase\tVERB\tVBP\t_\t0\troot\t_\t_
3\tcats\tcat\tNOUN\tNNS\tNumber=Plur\t2\tobj\t_\tSpaceAfter=No
4\t.\t.\tPUNCT\t.\t_\t2\tpunct\t_\t_

# newdoc id = d2
# sent_id = s2
# text = She sleeps
1\tShe\tshe\tPRON\tPRP\tNumber=Sing\t2\tnsubj\t_\t_
2\tsleeps\tsleep\tVERB\tVBZ\tNumber=Sing\t0\troot\t_\t_

"""


@pytest.fixture
def conllu(tmp_path: Path) -> Path:
    path = tmp_path / "two.conllu"
    path.write_text(CONLLU)
    return path


@pytest.fixture
def take(gpt2: nn.Module, tokenizer: Any, tmp_path: Path) -> Callable[..., Store]:
    """`extract` on the small model, quietly, into a folder of this test."""

    def run(corpus: Any, layers: Any = "all", **options: Any) -> Store:
        options = {"tokenizer": tokenizer, "progress": False, "to": tmp_path / "store"} | options
        return extract(options.pop("model", gpt2), corpus, layers, **options)

    return run


def alone(model: nn.Module, tokenizer: Any, text: str, site: str) -> Tensor:
    """The site for one text, run by itself without any padding."""
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    with torch.no_grad(), capture(model, site) as seen:
        model(input_ids=ids)
    return seen[site][0]


@pytest.mark.parametrize("batch_tokens", [1, 50, 4096])
def test_rows_of_a_batch_equal_texts_run_alone(
    take: Callable[..., Store],
    gpt2: nn.Module,
    tokenizer: Any,
    sentences: list[str],
    batch_tokens: int,
) -> None:
    sites = ["embed", "blocks.0.attn_out", "blocks.2.mlp_out", "blocks.2.resid_post", "norm"]
    store = take(sentences, sites, batch_tokens=batch_tokens)
    for site in sites:
        want = torch.cat([alone(gpt2, tokenizer, text, site) for text in sentences])
        torch.testing.assert_close(store[site][:], want, rtol=0, atol=2e-6)


def test_the_same_for_a_bidirectional_model(
    tokenizer: Any, sentences: list[str], take: Callable[..., Store]
) -> None:
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        vocab_size=300,
    )  # fmt: skip
    model = BertModel(config).eval()
    store = take(sentences, "all", model=model)
    want = torch.cat([alone(model, tokenizer, t, "blocks.1.resid_post") for t in sentences])
    torch.testing.assert_close(store["blocks.1.resid_post"][:], want, rtol=0, atol=2e-6)


def test_word_rows_are_the_mean_of_their_pieces(
    take: Callable[..., Store], gpt2: nn.Module, tokenizer: Any, conllu: Path
) -> None:
    store = take(conllu, 1, rows="words")
    assert store.rows["word"].tolist() == ["Dogs", "chase", "cats", ".", "She", "sleeps"]
    assert store.rows["upos"].tolist() == ["NOUN", "VERB", "NOUN", "PUNCT", "PRON", "VERB"]
    assert store.rows["group"].astype(str).nunique() == 2
    for text, content in enumerate(["Dogs chase cats.", "She sleeps"]):
        states = alone(gpt2, tokenizer, content, "blocks.1.resid_post")
        offsets = tokenizer(content, return_offsets_mapping=True)["offset_mapping"]
        lines = store.rows[store.rows["text"] == text]
        for row, line in lines.iterrows():
            pieces = [
                i for i, (a, b) in enumerate(offsets) if a < line.char_end and b > line.char_start
            ]
            want = states[pieces].mean(0)
            torch.testing.assert_close(store[1][int(row)], want, rtol=0, atol=2e-6)  # type: ignore[arg-type]


def test_token_rows_carry_the_labels_of_their_word(
    take: Callable[..., Store], conllu: Path
) -> None:
    rows = take(conllu, 0).rows
    for line in rows[rows["upos"].notna()].itertuples():
        assert line.token.strip() in str(line.word)


@pytest.mark.parametrize("part", ["q", "z"])
def test_heads_are_laid_side_by_side(
    take: Callable[..., Store], gpt2: nn.Module, tokenizer: Any, sentences: list[str], part: str
) -> None:
    site = f"blocks.1.{part}"
    store = take(sentences[:3], site)
    x = alone(gpt2, tokenizer, sentences[0], site)
    want = (x.transpose(0, 1) if part == "q" else x).flatten(1)
    torch.testing.assert_close(store[site][: len(want)], want, rtol=0, atol=2e-6)


def test_blocks_after_the_last_wanted_one_and_the_head_never_run(
    take: Callable[..., Store], gpt2: Any, sentences: list[str]
) -> None:
    calls: list[str] = []
    take(sentences[:2], 0)  # so that the look at the anatomy is over
    for name in ("transformer.h.0", "transformer.h.1", "lm_head"):
        gpt2.get_submodule(name).register_forward_hook(lambda *_, name=name: calls.append(name))
    take(sentences, 0, to=None)
    assert set(calls) == {"transformer.h.0"}


def test_bfloat16_rows_are_the_rounded_float32_rows(
    take: Callable[..., Store], sentences: list[str]
) -> None:
    wide = take(sentences, 1, to=None)
    short = take(sentences, 1, to=None, dtype="bfloat16")
    assert short[1].dtype == torch.bfloat16
    assert torch.equal(short[1][:], wide[1][:].bfloat16())
    assert short.key != wide.key


def test_the_second_call_returns_at_once(
    take: Callable[..., Store], gpt2: Any, sentences: list[str]
) -> None:
    first = take(sentences, "all", to=None)

    def refuse(*_: Any) -> None:
        raise AssertionError("the model ran again")

    with_hook = gpt2.transformer.h[0].register_forward_pre_hook(refuse)
    second = take(sentences, "all", to=None)
    with_hook.remove()
    assert second.key == first.key
    assert second.path == first.path


def test_the_model_comes_back_in_its_own_mode(
    take: Callable[..., Store], gpt2: Any, sentences: list[str]
) -> None:
    gpt2.train()
    gpt2.transformer.h[1].eval()
    state = torch.get_rng_state()
    modes = [module.training for module in gpt2.modules()]
    store = take(sentences, 2)
    assert [module.training for module in gpt2.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    gpt2.eval()
    assert torch.equal(take(sentences, 2, to=None)[2][:], store[2][:])


def test_changed_weights_are_refused_with_what_differs(
    take: Callable[..., Store], gpt2: Any, sentences: list[str]
) -> None:
    take(sentences)
    with torch.no_grad():
        gpt2.transformer.h[0].mlp.c_fc.weight[0, 0] += 1
    with pytest.raises(StoreMismatch, match="model"):
        take(sentences)


def test_changed_text_or_dtype_or_sites_are_refused(
    take: Callable[..., Store], sentences: list[str]
) -> None:
    take(sentences)
    with pytest.raises(StoreMismatch, match="corpus"):
        take([*sentences[:-1], "it worked"])
    with pytest.raises(StoreMismatch, match="dtype"):
        take(sentences, dtype="bfloat16")
    with pytest.raises(StoreMismatch, match="sites"):
        take(sentences, 1)


def test_a_changed_tokenizer_is_refused(
    take: Callable[..., Store], tokenizer: Any, sentences: list[str]
) -> None:
    take(sentences)
    other = copy.deepcopy(tokenizer)
    other.add_tokens(["barks"])
    with pytest.raises(StoreMismatch, match="tokenizer"):
        take(sentences, tokenizer=other)


def test_nan_weights_are_named_with_site_and_row(
    take: Callable[..., Store], gpt2: Any, sentences: list[str]
) -> None:
    take(sentences[:1], to=None)  # the anatomy is known by now
    with torch.no_grad():
        gpt2.transformer.h[1].mlp.c_proj.bias[0] = float("nan")
    with pytest.raises(ValueError, match=r"blocks\.1\.resid_post is NaN at text 0"):
        take(sentences)


def test_texts_beyond_the_context_are_cut_and_counted(
    take: Callable[..., Store], sentences: list[str]
) -> None:
    store = take([*sentences, " ".join(sentences)])
    assert any("1 text was cut at the context of 64 tokens" in note for note in store.notes)
    assert store.rows["position"].max() == 63


def test_texts_beyond_the_context_are_refused_on_request(
    take: Callable[..., Store], sentences: list[str]
) -> None:
    with pytest.raises(ValueError, match="longer than the context of 64 tokens"):
        take([" ".join(sentences)], too_long="refuse")


def test_out_of_memory_halves_the_batch_and_goes_on(
    take: Callable[..., Store], gpt2: Any, sentences: list[str]
) -> None:
    want = take(sentences, 2, to=None)[2][:]

    def greedy(module: nn.Module, args: Any, kwargs: Any) -> None:
        if kwargs["input_ids"].shape[0] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory (planted)")

    hook = gpt2.register_forward_pre_hook(greedy, with_kwargs=True)
    with pytest.warns(UserWarning, match="batches were halved"):
        store = take(sentences, 2)
    hook.remove()
    torch.testing.assert_close(store[2][:], want, rtol=0, atol=2e-6)
    assert any("halved" in note for note in store.notes)


def test_out_of_memory_with_one_text_says_what_to_do(
    take: Callable[..., Store], gpt2: Any, sentences: list[str]
) -> None:
    take(sentences, 2, to=None)

    def greedy(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory (planted)")

    gpt2.transformer.h[0].register_forward_pre_hook(greedy)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(RuntimeError, match=r"out of memory with a single text"):
            take(sentences[:4], 2, to=None)


def test_empty_corpora_and_unlabelled_words_are_refused(
    take: Callable[..., Store], sentences: list[str]
) -> None:
    with pytest.raises(ValueError, match="holds no text"):
        take([])
    with pytest.raises(ValueError, match="no labelled words"):
        take(sentences, rows="words")
    with pytest.raises(ValueError, match=r"rows='wrods' is unknown"):
        take(sentences, rows="wrods")


def test_unknown_sites_and_dtypes_are_refused(
    take: Callable[..., Store], sentences: list[str]
) -> None:
    with pytest.raises(LookupError, match=r"blocks\.0\.resid_post"):
        take(sentences, "blocks.0.resid_pots")
    with pytest.raises(ValueError, match="float32, bfloat16, float16"):
        take(sentences, dtype="int8")
    with pytest.raises(ValueError, match="read them with capture"):
        take(sentences, "blocks.0.pattern")


def test_a_model_without_a_tokenizer_says_so(gpt2: nn.Module, sentences: list[str]) -> None:
    with pytest.raises(ValueError, match="pass tokenizer="):
        extract(gpt2, sentences, progress=False)


def test_a_hook_of_the_user_that_raises_leaves_nothing_behind(
    take: Callable[..., Store], gpt2: Any, sentences: list[str]
) -> None:
    take(sentences, to=None)

    def fault(*_: Any) -> None:
        raise KeyError("the user's own fault")

    hook = gpt2.transformer.h[1].register_forward_hook(fault)
    hooks_before = sum(len(m._forward_hooks) for m in gpt2.modules())
    with pytest.raises(KeyError, match="the user's own fault"):
        take(sentences, 2)
    assert sum(len(m._forward_hooks) for m in gpt2.modules()) == hooks_before
    hook.remove()
    assert len(take(sentences, 2)) > 0


def test_the_table_is_in_corpus_order(take: Callable[..., Store], sentences: list[str]) -> None:
    rows = take(read(sentences)).rows
    assert rows["text"].is_monotonic_increasing
    assert rows.groupby("text")["position"].apply(lambda p: p.tolist() == sorted(p)).all()
