"""Pictures of the pages about layers: read through the head, compared, left out, patched, reordered."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import layerscope as ls
from layerscope import analyses, demo
from layerscope.demo.chains import chains, unseen
from layerscope.demo.recall import answered
from layerscope.demo.world import candidates

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from layerscope import Finding
    from layerscope.demo.world import Question

QUIET: dict[str, Any] = {"progress": False}


def lens(data: Path) -> Finding:
    story = "Once upon a time, there was a little girl named Lily. She had a red ball."
    return analyses.lens_tokens(_stories_model(data), story, **QUIET)


def lens_layers(data: Path) -> Finding:
    stories = ls.read(data / "text_tinystories/tinystories_500.json")
    kinds = ["logit", "tuned", "affine"]
    return analyses.lens(_stories_model(data), stories, limit=120, kind=kinds, **QUIET)


def layer_similarity(data: Path) -> Finding:
    return analyses.layer_similarity(demo.load_model(), twin=True, **QUIET)


def layer_drop(data: Path) -> Finding:
    return analyses.layer_drop(demo.load_model(), **QUIET)


def ffn_skip(data: Path) -> Finding:
    return analyses.ffn_skip(demo.load_model(), **QUIET)


def layer_skip(data: Path) -> Finding:
    return analyses.layer_skip(demo.load_model(), twin=True, **QUIET)


def parallel_windows(data: Path) -> Finding:
    return analyses.parallel_windows(demo.load_model(), **QUIET)


def depth_use(data: Path) -> Finding:
    return analyses.depth_use(demo.load_model(), **QUIET)


def erasure(data: Path) -> Finding:
    asked = _chains()[0]
    return analyses.erasure(demo.load_model(), asked.prompt, [asked.answer], **QUIET)


def integrated_gradients(data: Path) -> Finding:
    asked = _chains()[0]
    return analyses.integrated_gradients(demo.load_model(), asked.prompt, [asked.answer], **QUIET)


def direct_logits(data: Path) -> Finding:
    asked = _chains()[:40]
    prompts, answers = [q.prompt for q in asked], [q.answer for q in asked]
    return analyses.direct_logits(demo.load_model(), prompts, answers)


def linear_maps(data: Path) -> Finding:
    early, late = (ls.load_model(data / f"gpt2_books_steps/step{n}") for n in (256, 2048))
    paragraphs = ls.read(data / "text_books/bronte.txt", text="paragraph")
    return analyses.linear_maps(early, late, paragraphs, limit=400, **QUIET)


def back_patching(data: Path) -> Finding:
    return chains(demo.load_model(), **QUIET)


def patching(data: Path) -> Finding:
    return analyses.patching(demo.load_model(), *_pairs(), **QUIET)


def causal_tracing(data: Path) -> Finding:
    clean, _, right, _ = _pairs()
    subjects = [a.start for a, _ in _people()]
    return analyses.causal_tracing(demo.load_model(), clean, right, subjects, **QUIET)


def knock_out(data: Path) -> Finding:
    clean, _, right, _ = _pairs()
    return analyses.knock_out(demo.load_model(), clean, right, window=3, **QUIET)


def attribution_patching(data: Path) -> Finding:
    return analyses.attribution_patching(demo.load_model(), *_pairs(), check=60, **QUIET)


def layer_programs(data: Path) -> Finding:
    """All chains that the model misses, and as many that it knows; the search takes minutes."""
    asked = _half_wrong()
    return analyses.layer_programs(
        demo.load_model(),
        [q.prompt for q in asked],
        [q.answer for q in asked],
        tries=200,
        alike=[q.relations[-1] for q in asked],
        guesses=[len(candidates(q.relations[-1])) for q in asked],
        **QUIET,
    )


def _stories_model(data: Path) -> nn.Module:
    return ls.load_model(data / "stories260K/hf")


def _chains() -> list[Question]:
    """Questions of two hops that the bundled model was trained on."""
    return [q for q in demo.questions() if q.hops == 2 and q.seen]


def _people() -> list[tuple[Question, Question]]:
    """Pairs that ask for the city of the friend of two people whose friends live elsewhere."""
    known = [q for q in demo.questions() if q.relations == ("friend", "city")]
    return [(a, b) for a, b in pairwise(known) if a.answer != b.answer][:20]


def _pairs() -> tuple[list[str], list[str], list[str], list[str]]:
    """Clean prompts, corrupt prompts, right answers, wrong answers."""
    first, second = zip(*_people(), strict=True)
    return (
        [q.prompt for q in first],
        [q.prompt for q in second],
        [q.answer for q in first],
        [q.answer for q in second],
    )


def _half_wrong() -> list[Question]:
    """All unseen chains that the bundled model misses, and as many of those that it knows."""
    asked = unseen()
    right = answered(demo.load_model(), demo.load_tokenizer(), asked)
    wrong = [q for q, known in zip(asked, right, strict=True) if not known]
    return [*wrong, *[q for q, known in zip(asked, right, strict=True) if known][: len(wrong)]]
