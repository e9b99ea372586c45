"""Writes the bundled data: ``python -m layerscope.demo.bundle --out FOLDER``."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from layerscope.demo import documents, world


def questions_jsonl() -> str:
    """Every question of the small world, one JSON object in a line."""
    return "".join(json.dumps(asdict(q), ensure_ascii=False) + "\n" for q in world.all_questions())


def write(folder: Path) -> None:
    """Write `sentences.conllu.gz` and `questions.jsonl`; the same bytes every time."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sentences.conllu.gz").write_bytes(documents.compressed(documents.bundled_conllu()))
    (folder / "questions.jsonl").write_text(questions_jsonl(), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the two files")
    write(parser.parse_args().out)
