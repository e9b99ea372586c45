"""Makes the bundled model: ``python -m layerscope.demo.train --out FOLDER``.

A Llama-shaped decoder is trained from nothing on generated sentences and on the facts of the small
world, in three quarters of an hour on one core. The bundled weights shared that core with other
work: an idle one takes more steps in the same time.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from layerscope.demo import documents, tokens, world
from layerscope.demo.chance import Chance
from layerscope.demo.recall import KINDS, answered, kind_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


IGNORED = -100
"""The label that transformers leaves out of the loss."""
FACTS_PER_DOCUMENT = 12
"""So many facts have about as many tokens as one document of sentences."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the bundled model is made."""

    width: int = 128
    blocks: int = 8
    heads: int = 4
    neurons: int = 256
    window: int = 128
    """Tokens per training row; documents are packed one after the other."""
    rows: int = 6
    steps: int = 100_000
    minutes: float = 44.0
    """Wall clock after which the learning rate has come down to nothing, whatever `steps` says."""
    rate: float = 2e-3
    warm_up: int = 200
    decay: float = 0.1
    spread: float = 0.1
    """Standard deviation of the first embeddings. With the usual 0.02 names look alike for so long
    that the facts are learned several times later."""
    world_share: float = 0.7
    """Share of the documents that hold facts; the others hold generated sentences."""
    seed: int = 0


def main() -> None:
    """Train, report on the way, and save as the clock allows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the model")
    parser.add_argument("--minutes", type=float, default=Settings.minutes)
    parser.add_argument("--steps", type=int, default=Settings.steps)
    args = parser.parse_args()
    train(args.out, Settings(minutes=args.minutes, steps=args.steps))


def train(out: Path, settings: Settings) -> None:
    """Train a tokenizer and a model and leave them in `out`, with a checkpoint every 500 steps."""
    torch.manual_seed(settings.seed)
    torch.set_num_threads(1)
    tokenizer = tokens.train_tokenizer(tokenizer_texts())
    tokenizer.save_pretrained(out)
    model = new_model(settings, len(tokenizer))
    optimizer = optimizer_of(model, settings)
    batches = packed(tokenizer, settings)
    log: list[dict[str, float]] = []
    start, done, step = time.monotonic(), 0.0, 0
    while done < 1:
        loss = descend(
            model, next(batches), optimizer, settings.rate * schedule(step, done, settings)
        )
        step += 1
        seconds = time.monotonic() - start
        done = max(step / settings.steps, seconds / (60 * settings.minutes))
        if step % 100 == 0:
            print(f"step {step}, {seconds:.0f} s, loss {loss:.3f}", flush=True)
        if step % 500 == 0 or done >= 1:
            log.append(
                {"step": step, "minutes": round(seconds / 60, 1)} | measure(model, tokenizer)
            )
            print(log[-1], flush=True)
            save(model, out)
            record = {"settings": asdict(settings), "log": log}
            (out / "training.json").write_text(json.dumps(record, indent=1) + "\n")


def descend(
    model: nn.Module, batch: tuple[Tensor, Tensor], optimizer: torch.optim.Optimizer, rate: float
) -> float:
    """One step on one batch; returns its loss in nats per token."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    ids, labels = batch
    loss: Tensor = model(input_ids=ids, labels=labels, use_cache=False).loss
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def schedule(step: int, done: float, settings: Settings) -> float:
    """Factor on the learning rate: a linear rise, a plateau, and a linear fall in the last 40 %."""
    return min(1.0, (step + 1) / settings.warm_up, (1 - done) / 0.4)


def new_model(settings: Settings, vocabulary: int) -> PreTrainedModel:
    """The untrained model, drawn from the global generator."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=settings.width,
        intermediate_size=settings.neurons,
        num_hidden_layers=settings.blocks,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        max_position_embeddings=2 * settings.window,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = LlamaForCausalLM(config)
    nn.init.normal_(model.get_input_embeddings().weight, std=settings.spread)
    return model


def optimizer_of(model: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """AdamW that decays matrices only."""
    matrices = [p for p in model.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": settings.decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.rate, betas=(0.9, 0.98), fused=True)


def tokenizer_texts() -> Iterator[str]:
    """What the tokenizer is trained on: some of the training stream, and every fact shown.

    Facts are repeated until each answer of the small world is one token.
    """
    for texts in islice(documents.training_documents("tokenizer"), 1500):
        yield " ".join(texts)
    for question in world.all_questions():
        if question.seen:
            yield from [question.prompt + question.completion] * 10


def training_texts(settings: Settings) -> Iterator[tuple[str, str]]:
    """Endless ``(prompt, completion)``: a lone sentence, a whole document, or a fact.

    Sentences have no prompt. A fact's prompt is not trained on: who is asked about is a random
    draw, in which there is nothing to learn.
    """
    chance = Chance(f"mix/{settings.seed}")
    stream = documents.training_documents(str(settings.seed))
    facts = shuffled_facts(chance)
    while True:
        if chance.happens(settings.world_share):
            yield from islice(facts, FACTS_PER_DOCUMENT)
        elif chance.happens(0.5):
            yield "", " ".join(next(stream))
        else:
            yield from (("", text) for text in next(stream))


def shuffled_facts(chance: Chance) -> Iterator[tuple[str, str]]:
    """Epoch after epoch of the facts that training shows, one-hop facts three times as often."""
    shown = [question for question in world.all_questions() if question.seen]
    epoch = [(q.prompt, q.completion) for q in shown for _ in range(3 if q.hops == 1 else 1)]
    while True:
        yield from chance.shuffled(epoch)


def packed(
    tokenizer: PreTrainedTokenizerFast, settings: Settings
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of token ids and labels, both ``[rows, window]``, texts end to end."""
    encode = tokenizer.backend_tokenizer.encode
    ids: list[int] = []
    labels: list[int] = []
    need = settings.rows * settings.window
    for prompt, completion in training_texts(settings):
        given = encode(prompt).ids
        wanted = [*encode(completion, add_special_tokens=False).ids, tokenizer.eos_token_id]
        ids += given + wanted
        labels += [IGNORED] * len(given) + wanted
        while len(ids) >= need:
            shape = settings.rows, settings.window
            yield torch.tensor(ids[:need]).view(shape), torch.tensor(labels[:need]).view(shape)
            del ids[:need], labels[:need]


def measure(model: nn.Module, tokenizer: PreTrainedTokenizerFast) -> dict[str, float]:
    """Loss on bundled sentences and accuracy on every kind of question."""
    model.eval()
    questions = world.all_questions()
    right = answered(model, tokenizer, questions)
    figures = {"held-out loss": held_out_loss(model, tokenizer, held_out_texts())}
    for kind in KINDS:
        hits = [hit for q, hit in zip(questions, right, strict=True) if kind_of(q) == kind]
        figures[kind] = sum(hits) / len(hits)
    model.train()
    return {name: round(value, 4) for name, value in figures.items()}


def held_out_texts() -> list[str]:
    """The sentences of the first 100 bundled documents, which training never shows."""
    first = islice(documents.bundled().values(), 100)
    return [sentence.text for sentences in first for sentence in sentences]


@torch.no_grad()
def held_out_loss(model: nn.Module, tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> float:
    """Mean loss in nats per token over whole texts, each read by itself."""
    total, count = 0.0, 0
    for start in range(0, len(texts), 64):
        batch = tokenizer(texts[start : start + 64], padding=True, return_tensors="pt")
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, IGNORED)
        here = int((labels[:, 1:] != IGNORED).sum())
        total += model(**batch, labels=labels).loss.item() * here
        count += here
    return total / count


def save(model: PreTrainedModel, out: Path) -> None:
    """Write the weights as float16, under a config that has them loaded as float32."""
    deepcopy(model).half().save_pretrained(out)
    path = out / "config.json"
    config = json.loads(path.read_text()) | {"dtype": "float32"}
    path.write_text(json.dumps(config, indent=2) + "\n")
    (out / "model.safetensors").chmod(0o644)


if __name__ == "__main__":
    main()
