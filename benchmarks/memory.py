"""Does peak memory stay flat when the corpus grows tenfold? Each size runs in its own process."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from _common import save

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def run(texts: int) -> None:
    """In a process of its own: extract, then print the peak."""
    import torch
    from extract import model_of
    from transformers import AutoTokenizer

    from layerscope.corpus import read
    from layerscope.hooks.extract import extract

    torch.set_num_threads(2)
    corpus = read(DATA / "ud_english_ewt" / "en_ewt-ud-train.conllu.gz").take(texts)
    tokenizer = AutoTokenizer.from_pretrained(DATA / "gpt2_books_steps" / "step0")
    with tempfile.TemporaryDirectory() as folder:
        store = extract(
            model_of(1024), corpus, "all", tokenizer=tokenizer, to=folder, progress=False
        )
        size = sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file())
        rows = len(store)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"texts": texts, "rows": rows, "store_mb": size >> 20, "peak_mb": peak}))


def main() -> None:
    quick = "--quick" in sys.argv
    sizes = (30, 300) if quick else (1200, 12000)
    figures = []
    for texts in sizes:
        command = [sys.executable, __file__, "--texts", str(texts)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        figures.append(json.loads(done.stdout.splitlines()[-1]))
        print(figures[-1])
    growth = figures[1]["peak_mb"] - figures[0]["peak_mb"]
    print(f"peak memory grows by {growth:.0f} MB over a tenfold corpus")
    if not quick:
        save("memory", {"runs": figures, "growth_mb": round(growth, 1)})


if __name__ == "__main__":
    if "--texts" in sys.argv:
        run(int(sys.argv[sys.argv.index("--texts") + 1]))
    else:
        main()
