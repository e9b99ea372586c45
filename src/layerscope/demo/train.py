"""Makes the bundled model: ``python -m layerscope.demo.train --out FOLDER``.

A Llama-shaped decoder is trained from nothing on generated sentences and on the facts of the small
world. One thread, one seed: about three quarters of an hour on one core of a laptop.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from layerscope.demo import documents, tokens, world
from layerscope.demo.chance import Chance

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the bundled model is made."""

    width: int = 128
    blocks: int = 8
    heads: int = 4
    neurons: int = 256
    window: int = 128
    """Tokens per training row; documents are packed one after the other."""
    rows: int = 16
    steps: int = 9000
    minutes: float = 45.0
    """Wall clock after which the learning rate has come down to nothing, whatever `steps` says."""
    rate: float = 3e-3
    warm_up: int = 200
    decay: float = 0.1
    world_share: float = 0.5
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
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    optimizer = optimizer_of(model, settings)
    batches = packed(tokenizer, settings)
    start = time.monotonic()
    for step in range(settings.steps):
        done = max(step / settings.steps, (time.monotonic() - start) / (60 * settings.minutes))
        if done >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = settings.rate * schedule(step, done, settings.warm_up)
        batch = next(batches)
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 100 == 0:
            print(f"{step} {time.monotonic() - start:.0f}s loss {loss.item():.3f}", flush=True)
        if step % 500 == 499:
            save(model, out)
            print(json.dumps({"step": step} | measure(model, tokenizer)), flush=True)
    save(model, out)
    print(json.dumps({"step": step} | measure(model, tokenizer)), flush=True)


def schedule(step: int, done: float, warm_up: int) -> float:
    """Factor on the learning rate: a linear rise, a plateau, and a linear fall in the last 40 %."""
    return min(1.0, (step + 1) / warm_up, (1 - done) / 0.4)


def new_model(settings: Settings, vocabulary: int) -> nn.Module:
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
        use_cache=False,
    )
    model: nn.Module = LlamaForCausalLM(config)
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
    """What the tokenizer is trained on: some of the training stream and every fact shown."""
    for texts in islice(documents.training_documents("tokenizer"), 1500):
        yield " ".join(texts)
    for question in world.all_questions():
        if question.seen:
            yield question.sentence


def training_texts(settings: Settings) -> Iterator[str]:
    """Endless texts: a lone sentence, a whole document, or one to four facts."""
    chance = Chance(f"mix/{settings.seed}")
    stream = documents.training_documents(str(settings.seed))
    facts = shuffled_facts(chance)
    while True:
        if chance.happens(settings.world_share):
            # A document has about 100 tokens, a fact 8: this many facts weigh the same.
            for _ in range(5):
                yield " ".join(islice(facts, chance.pick((1, 2, 3))))
        elif chance.happens(0.5):
            yield " ".join(next(stream))
        else:
            yield from next(stream)


def shuffled_facts(chance: Chance) -> Iterator[str]:
    """Epoch after epoch of the facts that training shows, one-hop facts four times as often."""
    shown = [question for question in world.all_questions() if question.seen]
    weighted = [q.sentence for q in shown for _ in range(4 if q.hops == 1 else 1)]
    while True:
        yield from chance.shuffled(weighted)


def packed(tokenizer: PreTrainedTokenizerFast, settings: Settings) -> Iterator[Tensor]:
    """Batches ``[rows, window]`` of token ids, documents end to end."""
    texts = training_texts(settings)
    ids: list[int] = []
    need = settings.rows * settings.window
    while True:
        while len(ids) < need:
            for row in tokenizer(list(islice(texts, 256)))["input_ids"]:
                ids += [*row, tokenizer.eos_token_id]
        yield torch.tensor(ids[:need]).view(settings.rows, settings.window)
        del ids[:need]


@torch.no_grad()
def measure(model: nn.Module, tokenizer: PreTrainedTokenizerFast) -> dict[str, float]:
    """Loss on bundled sentences and accuracy on every kind of question."""
    model.eval()
    sentences = [s.text for _, d in islice(documents.bundled(), 50) for s in d]
    figures = {"held_out_loss": held_out_loss(model, tokenizer, sentences)}
    for name, chosen in kinds().items():
        figures[name] = sum(recalled(model, tokenizer, chosen)) / len(chosen)
    model.train()
    return {name: round(value, 4) for name, value in figures.items()}


def kinds() -> dict[str, list[world.Question]]:
    questions = world.all_questions()
    return {
        "one hop": [q for q in questions if q.hops == 1],
        "two hops, seen": [q for q in questions if q.hops == 2 and q.seen],
        "two hops, unseen": [q for q in questions if q.hops == 2 and not q.seen],
    }


def held_out_loss(model: nn.Module, tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> float:
    """Mean loss in nats per token over whole texts, each read by itself."""
    total, count = 0.0, 0
    for start in range(0, len(texts), 64):
        batch = tokenizer(texts[start : start + 64], padding=True, return_tensors="pt")
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        here = int((labels[:, 1:] != -100).sum())
        total += model(**batch, labels=labels).loss.item() * here
        count += here
    return total / count


def recalled(
    model: nn.Module, tokenizer: PreTrainedTokenizerFast, questions: list[world.Question]
) -> list[bool]:
    """For each question, whether the likeliest next token is the answer's."""
    right: list[bool] = []
    for start in range(0, len(questions), 256):
        part = questions[start : start + 256]
        batch = tokenizer([q.prompt for q in part], padding=True, return_tensors="pt")
        last = batch["attention_mask"].sum(1) - 1
        logits = model(**batch).logits[torch.arange(len(part)), last]
        answers = tokenizer([" " + q.answer for q in part], add_special_tokens=False)["input_ids"]
        right += [a[0] == int(b) for a, b in zip(answers, logits.argmax(-1), strict=True)]
    return right


def save(model: nn.Module, out: Path) -> None:
    """Write the weights as float16; they load as float32."""
    from copy import deepcopy

    deepcopy(model).half().save_pretrained(out)


if __name__ == "__main__":
    main()
