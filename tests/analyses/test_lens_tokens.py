"""One text, token by layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from layerscope.analyses.lens_tokens import LensTokensFinding, lens_tokens
from layerscope.analyses.material.pieces import piece, shown
from layerscope.finding import Finding
from layerscope.hooks.load import load_model, tokenizer_of
from layerscope.planted.two_hop import two_hop

TEXT = "Once upon a time, there was a little girl named Lily."


@pytest.fixture(scope="module")
def trained(shared_data: Any) -> torch.nn.Module:
    return load_model(shared_data / "stories260K" / "hf")


def test_every_cell_of_the_planted_model() -> None:
    planted = two_hop(1, 3, 5)
    for prompt, answer in zip(planted.prompts, planted.answers, strict=True):
        found = lens_tokens(planted.model, prompt.tolist(), progress=False)
        last = found.table[found.table["position"] == 1]
        assert [p == str(int(answer)) for p in last["prediction"]] == [i > 5 for i in range(9)]
        assert (last["final"] == str(int(answer))).all()
        assert [rank == 0 for rank in last["final_rank"]] == [i > 5 for i in range(9)]
        assert "first choice from blocks.5.resid_post on" in found.answer()


def test_cells_against_the_models_own_logits(trained) -> None:
    found = lens_tokens(trained, TEXT, k=4, progress=False)
    tokenizer = tokenizer_of(trained)
    ids = tokenizer(TEXT, return_tensors="pt").input_ids
    kept: dict[int, torch.Tensor] = {}
    hooks = [
        block.register_forward_hook(lambda module, args, out, i=i: kept.__setitem__(i, out[0]))
        for i, block in enumerate(trained.model.layers)
    ]
    with torch.no_grad():
        logits = trained(ids).logits[0]
        for hook in hooks:
            hook.remove()
        middle = trained.lm_head(trained.model.norm(kept[2])).softmax(-1)
    part = found.table[found.table["layer"] == 2]
    assert part["position"].tolist() == list(range(ids.shape[1]))
    for row in part.itertuples():
        own = middle[row.position]
        assert row.probability == pytest.approx(float(own.max()), rel=1e-4)
        assert row.prediction == piece(tokenizer, int(own.argmax()))
        final = int(logits[row.position].argmax())
        assert row.final == piece(tokenizer, final)
        assert row.final_probability == pytest.approx(float(own[final]), rel=1e-4)
        assert row.likeliest.count("\n") == 3
        if row.position + 1 < ids.shape[1]:
            follows = int(ids[0, row.position + 1])
            assert row.next == piece(tokenizer, follows)
            assert row.next_rank == int((own > own[follows]).sum())
    end = found.table[found.table["position"] == ids.shape[1] - 1]
    assert end["next"].isna().all()
    last = found.table[found.table["layer"] == 4]
    assert (last["prediction"] == last["final"]).all()
    assert (last["final_rank"] == 0).all()


def test_part_of_a_text_is_what_the_whole_shows_there(trained) -> None:
    whole = lens_tokens(trained, TEXT, progress=False)
    part = lens_tokens(trained, TEXT, start=3, tokens=4, progress=False)
    same = whole.table[whole.table["position"].between(3, 6)]
    assert part.table["prediction"].tolist() == same["prediction"].tolist()
    assert part.table["token"].tolist() == same["token"].tolist()
    assert "Tokens 3 to 6 of" in part.notes[-1]
    assert not any("are shown" in note for note in whole.notes)


def test_the_picture_has_words_and_no_markup_from_tokens(trained, tmp_path) -> None:
    found = lens_tokens(trained, TEXT, progress=False)
    again = Finding.load(found.save(tmp_path / "tokens"))
    assert isinstance(again, LensTokensFinding)
    assert again.answer() == found.answer()
    drawn = again.figure().data[0]
    assert len(drawn.z) == found.table["position"].nunique()
    assert len(drawn.z[0]) == 6
    assert again.figure().layout.yaxis.ticktext[0] == "&lt;s&gt;"
    assert drawn.text[0][0] == "&lt;s&gt;"
    # Bold: the layer says what the text goes on with.
    assert any("<b>" in word for row in drawn.text for word in row)


def test_many_layers_are_thinned() -> None:
    planted = two_hop(1, 3, 5, n_blocks=30)
    found = lens_tokens(planted.model, planted.prompts[0].tolist(), progress=False)
    assert found.table["layer"].nunique() == 31
    names = found.figure().layout.xaxis.ticktext
    assert len(names) == 13
    assert (names[0], names[-1]) == ("embed", "29")


def test_refusals(trained) -> None:
    with pytest.raises(ValueError, match=r"shows one text, got 2; lens\(\) measures many"):
        lens_tokens(trained, [TEXT, TEXT])
    with pytest.raises(ValueError, match="start=99, but the text has"):
        lens_tokens(trained, TEXT, start=99)
    with pytest.raises(ValueError, match="kind 'x' is unknown"):
        lens_tokens(trained, TEXT, kind="x")


def test_tokens_as_a_reader_wants_them(trained, tokenizer) -> None:
    own = tokenizer_of(trained)
    ids = own(" the cat", add_special_tokens=False).input_ids
    assert "".join(piece(own, i) for i in ids).endswith(" cat")
    assert piece(None, 7) == "7"
    half = tokenizer("\u00e9", add_special_tokens=False).input_ids
    assert len(half) == 2
    assert "\ufffd" not in piece(tokenizer, half[0])
    assert shown("\n\n") == "\u23ce\u23ce"
    assert shown("<b>") == "<b>"
