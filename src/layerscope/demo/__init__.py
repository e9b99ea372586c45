"""The bundled model, its sentences and its small world of facts; `layerscope demo` shows them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from layerscope.demo.world import Question


def folder() -> Path:
    """The folder with the bundled files: `model/`, `sentences.conllu.gz`, `questions.jsonl`."""
    from importlib.resources import files

    return Path(str(files("layerscope.demo")))


def load_model() -> nn.Module:
    """The bundled decoder: 8 blocks of width 128, in float32, ready to be read."""
    import torch

    from layerscope.hooks.load import load_model as load

    return load(folder() / "model", dtype=torch.float32)


def load_tokenizer() -> Any:
    """The tokenizer of the bundled model."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder() / "model")


def questions() -> tuple[Question, ...]:
    """Every one-hop and two-hop question, as bundled in `questions.jsonl`."""
    import json

    from layerscope.demo.world import Question

    lines = (folder() / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = (json.loads(line) for line in lines)
    return tuple(Question(**row | {"relations": tuple(row["relations"])}) for row in rows)
