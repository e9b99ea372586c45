"""The performance page: every figure is read from benchmarks/results, none is typed.

Each benchmark has an entry here that says which of its figures are shown and what stands beside
them. A benchmark without an entry, or an entry without a benchmark, stops the build.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
Body = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One measured figure and what it is held against."""

    what: str
    ours: float
    unit: str
    beside: str = ""
    other: float | None = None
    more: bool = False
    """Whether more is better: rates and shares, not seconds."""

    @property
    def ratio(self) -> float | None:
        """How many times as good as what stands beside it."""
        if self.other is None:
            return None
        return self.ours / self.other if self.more else self.other / self.ours


@dataclass(frozen=True)
class Entry:
    """A benchmark as the page tells it."""

    group: str
    title: str
    measured: str
    rows: Callable[[Body], Iterator[Row]]


def page() -> str:
    """The body of the page, in Markdown."""
    entries = {**ENTRIES}
    _refuse_gaps(set(entries))
    parts: list[str] = []
    for group in dict.fromkeys(entry.group for entry in entries.values()):
        parts.append(f"## {group}")
        parts += [_section(name, e) for name, e in entries.items() if e.group == group]
    return "\n\n".join(parts)


def _refuse_gaps(told: set[str]) -> None:
    there = {path.stem for path in BENCHMARKS.glob("[a-z]*.py")}
    if there != told:
        raise ValueError(
            f"docs/make/performance.py: benchmarks without an entry: {sorted(there - told)}; "
            f"entries without a benchmark: {sorted(told - there)}"
        )


def _section(name: str, entry: Entry) -> str:
    head = f"### {entry.title}\n\n{entry.measured}"
    results = BENCHMARKS / "results" / f"{name}.json"
    if not results.is_file():
        return f"{head}\n\nNo figures are kept in the repository yet: `python benchmarks/{name}.py` measures them."
    body = json.loads(results.read_text())
    return f"{head}\n\n{_table(list(entry.rows(body)))}\n\n{_machine(name, body)}"


def _table(rows: list[Row]) -> str:
    compared = any(row.other is not None for row in rows)
    if not compared:
        lines = ["| | layerscope |", "|---|---:|"]
        return "\n".join(lines + [f"| {r.what} | {_number(r.ours, r.unit)} |" for r in rows])
    lines = ["| | layerscope | beside it | | ratio |", "|---|---:|---:|---|---:|"]
    return "\n".join(lines + [_line(row) for row in rows])


def _line(row: Row) -> str:
    ours = _number(row.ours, row.unit)
    if row.other is None or row.ratio is None:
        return f"| {row.what} | {ours} | | | |"
    beside = f"{row.beside} {_number(row.other, row.unit)}"
    return f"| {row.what} | {ours} | {beside} | {_bars(row)} | {_digits(row.ratio)} &times; |"


def _bars(row: Row) -> str:
    """Two lines, as long as the figures; the eye gets the ratio without reading."""
    assert row.other is not None
    longest = max(row.ours, row.other)
    widths = (f"{100 * value / longest:.1f}%" for value in (row.ours, row.other))
    ours, other = (f'<i style="width:{width}"></i>' for width in widths)
    return f'<span class="bars" aria-hidden="true">{ours}{other}</span>'


def _machine(name: str, body: Body) -> str:
    """Where and when, as the results say."""
    machine = body["machine"]
    threads = machine["threads"]
    where = [
        machine["gpu"] or f"{machine['cpu']}, {machine['cores']} cores",
        f"{threads} thread{'s' * (threads != 1)}",
        f"torch {machine['versions']['torch']}",
        body["date"],
    ]
    return f"{', '.join(where)}. `python benchmarks/{name}.py`\n{{: .caption }}"


def _number(value: float, unit: str) -> str:
    space = "" if unit in ("", "%") else "\u00a0"
    return f"{_digits(value)}{space}{unit}"


def _digits(value: float) -> str:
    """Three digits that count, whole numbers whole."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{float(f'{value:.3g}'):g}"


def _front_door(body: Body) -> Iterator[Row]:
    floor = body["python_alone_s"]
    yield Row("`import layerscope`", body["import_layerscope_s"], "s", "Python alone", floor)
    yield Row("`layerscope --help`", body["help_s"], "s", "Python alone", floor)


def _anatomy(body: Body) -> Iterator[Row]:
    built = body["built"]
    beside = "built by transformers"
    yield Row("model types located", body["located"], "", beside, built, more=True)
    yield Row("model types that pass every check", body["passed"], "", beside, built, more=True)


def _capture(body: Body) -> Iterator[Row]:
    best = body["best_ms"]
    for ours, beside in (
        ("capture all resid_post", "output_hidden_states=True"),
        ("capture every q k v z", "bare forward"),
        ("capture every pattern, model stays sdpa", "output_attentions=True, model is eager"),
        ("capture every site", "bare forward"),
        ("stop after block 0", "bare forward"),
    ):
        yield Row(ours, best[ours], "ms", beside, best[beside])


def _extract(body: Body) -> Iterator[Row]:
    for key, name in (("own_vocabulary", "1,024 pieces"), ("gpt2_vocabulary", "50,257 pieces")):
        part = body[key]
        seconds, floor, loop = (part[k] for k in ("extract_s", "bare_forward_s", "plain_loop_s"))
        yield Row(f"vocabulary of {name}", seconds, "s", "bare forward pass", floor)
        yield Row(f"vocabulary of {name}", seconds, "s", "plain loop", loop)


def _memory(body: Body) -> Iterator[Row]:
    for run in body["runs"]:
        yield Row(f"peak memory, store of {run['store_mb']:,} MB", run["peak_mb"], "MB")
    yield Row("growth from the smaller to the larger", body["growth_mb"], "MB")


def _store(body: Body) -> Iterator[Row]:
    speed, writing = body["gb_per_second"], body["writing"]
    for key, name in (
        ("copy", "slices, copied"),
        ("sum", "slices, summed"),
        ("shuffled", "shuffled batches"),
    ):
        yield Row(
            name, speed[f"store_{key}"], "GB/s", "numpy.memmap", speed[f"memmap_{key}"], more=True
        )
    yield Row(
        "writing", writing["store_gb_s"], "GB/s", "plain bytes", writing["raw_gb_s"], more=True
    )


def _solver(body: Body) -> Iterator[Row]:
    for size in body["sizes"]:
        what = f"{size['rows']:,} rows &times; {size['width']}, {size['classes']} classes"
        yield Row(what, size["torch_seconds"], "s", "scikit-learn", size["sklearn_seconds"])


def _kinds(body: Body) -> Iterator[Row]:
    for kind in body["kinds"]:
        yield Row(
            f"`{kind['kind']}`", kind["seconds"], "s", kind["peer"] or "", kind["peer_seconds"]
        )


def _gdv(body: Body) -> Iterator[Row]:
    for line in body["lines"]:
        what = f"{line['rows']:,} rows &times; {line['width']}"
        yield Row(what, line["ours"], "s", "plain loop", line["loop"])


def _similarity(body: Body) -> Iterator[Row]:
    for line in body["cka"]:
        what = f"{line['layers']} layers, {line['rows']:,} rows &times; {line['width']}"
        yield Row(
            what, line["seconds"], "s", "loop with kept Gram matrices", line["kept_grams_seconds"]
        )


def _ksg(body: Body) -> Iterator[Row]:
    for line in body["lines"]:
        columns = f"{line['width']} + {line['width']} columns"
        what = f"{line['rows']:,} rows, {columns}, {line['information']:g} nats"
        peer = line["ours"] * line["speedup_sklearn"]
        yield Row(what, line["ours"], "s", "scikit-learn", peer)


def _tasks(body: Body) -> Iterator[Row]:
    summary = body["summary"]["tasks_up_to_5"]
    yield Row("benchmark tasks of up to 5 + 5 dimensions", summary["pairs"], "")
    yield Row("answered with a value", summary["value"], "")
    yield Row("flagged as unreliable", summary["unreliable"], "")
    yield Row("answered with a named proxy", summary["proxy"], "")
    off = summary["values_off_by_more_than_a_quarter"]
    yield Row("values off by more than a quarter", off, "")


def _plane(body: Body) -> Iterator[Row]:
    yield Row("8 networks, tanh and ReLU, training and plane", body["few_seeds"]["total_s"], "s")
    yield Row("32 networks, tanh and ReLU, training and plane", body["many_seeds"]["total_s"], "s")
    for name, ratio in body["plain_loop_over_ours_per_network_epoch"].items():
        yield Row(f"times as fast as one network after another, {name}", ratio, "&times;")


def _survey(body: Body) -> Iterator[Row]:
    for part, seconds in body["seconds"].items():
        yield Row(part, seconds, "s")
    yield Row("together", body["total_s"], "s")
    yield Row("peak memory", body["peak_gib"], "GiB")


def _skip(body: Body) -> Iterator[Row]:
    for texts in ("1 texts", "4 texts"):
        best = body[texts]["best_ms"]
        what = "each of 12 blocks skipped, " + ("one text" if texts[0] == "1" else "four texts")
        yield Row(what, best["one pass"], "ms", "loop of hooks", best["loop of hooks"])
    evaluations = body["1 texts"]["layer_evaluations_per_text"]
    yield Row(
        "layer-evaluations",
        evaluations["one pass"],
        "",
        "loop of hooks",
        evaluations["loop of hooks"],
    )


def _back(body: Body) -> Iterator[Row]:
    for prompts in ("1 prompts", "16 prompts"):
        best = body[prompts]["best_ms"]
        what = f"all {body['pairs']} pairs, " + prompts.replace("1 prompts", "1 prompt")
        yield Row(what, best["engine"], "ms", "loop of hooks", best["loop of hooks"])


def _tracing(body: Body) -> Iterator[Row]:
    yield Row("one map", body["seconds"], "s", "whole passes", body["seconds_by_whole_passes"])
    ours, other = body["layer_evaluations"], body["layer_evaluations_by_whole_passes"]
    yield Row("layer-evaluations", ours, "", "whole passes", other)


def _gradients(body: Body) -> Iterator[Row]:
    for kind in body["kinds"]:
        yield Row(
            f"{kind['kind']}: evaluations, median",
            kind["midpoints_median"],
            "",
            "left rule",
            body["left_steps"],
        )


def _sae(body: Body) -> Iterator[Row]:
    step = body["step_seconds"]
    yield Row("step", step["sparse"], "s", "floor: one product, one top-k", step["floor"])
    yield Row("step", step["sparse"], "s", "our dense step", step["dense"])
    peer = body["saelens"]["settings"]
    for setting in ("default", body["saelens"]["fastest"]):
        rate = peer[setting]["tokens_per_s"]
        yield Row(
            "training", body["tokens_per_second"], "rows/s", f"SAELens, {setting}", rate, more=True
        )


def _sae_stories(body: Body) -> Iterator[Row]:
    for k in ("k=4", "k=8", "k=16"):
        shown = next(m for m in body[k]["measures"] if m["key"] == "explained_variance")
        yield Row(
            f"explained variance, {k}",
            shown["value"],
            "",
            "random dictionary",
            shown["random"],
            more=True,
        )
    yield Row("all three trained together", body["train_together_s"], "s")


def _sae_rows(body: Body) -> Iterator[Row]:
    for name, case in body["cases"].items():
        yield Row(
            f"reading a batch: {name.replace('1 sites', '1 site')}",
            case["reading_by_itself_ms"],
            "ms",
            "one product, one top-k of the step",
            case["step_ms"],
        )


def _report(body: Body) -> Iterator[Row]:
    what = f"a report of {body['report_mb']} MB"
    for key, name in (("first_text", "first text"), ("all_figures", "all figures")):
        ours, plain = body[f"packed_{key}_ms"], body[f"plain_{key}_ms"]
        yield Row(f"{what}: {name}", ours, "ms", "the same, unpacked", plain)


def _none(body: Body) -> Iterator[Row]:
    raise ValueError(f"{body['benchmark']} has results now: say here which of them to show")


_READ, _LOOK, _IF, _SAE = (
    "Reading a model",
    "What layers know and look like",
    "What if",
    "Sparse dictionaries",
)

ENTRIES: dict[str, Entry] = {
    "front_door": Entry(
        _READ,
        "The front door",
        "How long until the first prompt. The floor is a Python that does nothing.",
        _front_door,
    ),
    "report_opening": Entry(
        _READ,
        "Opening a report",
        "In headless Chromium, until the first text is painted and until all figures are drawn. "
        "The report carries its drawing library packed; beside it the same page with it unpacked.",
        _report,
    ),
    "anatomy_coverage": Entry(
        _READ,
        "Models that are located",
        "Every type of causal language model of transformers, built from its own default configuration. No table of names is used; what fails says which check.",
        _anatomy,
    ),
    "capture_cost": Entry(
        _READ,
        "Listening",
        "Capture beside the bare forward pass and beside the flags of transformers: 6 blocks of width 384, one batch of 8 &times; 128 tokens.",
        _capture,
    ),
    "extract": Entry(
        _READ,
        "A corpus to disk",
        "3,000 sentences through a 6-block model of width 384, every `resid_post`, disk and checksums included. The loop is the one most people write: padded batches in file order and `output_hidden_states=True`.",
        _extract,
    ),
    "gpu_extract": Entry(
        _READ,
        "A corpus to disk, on CUDA",
        "The same with a Llama of about one billion parameters in bfloat16, the copy to the host included.",
        _none,
    ),
    "memory": Entry(
        _READ,
        "Memory",
        "Peak memory of extraction while the corpus grows tenfold, the model included.",
        _memory,
    ),
    "store_reading": Entry(
        _READ,
        "The store",
        "A stored site beside `numpy.memmap` of the same numbers, from the page cache: this measures our code, not a disk.",
        _store,
    ),
    "probe_solver": Entry(
        _LOOK,
        "The solver of linear probes",
        "Five cross-validation fits of multinomial logistic regression at one penalty, to the same optimum.",
        _solver,
    ),
    "probe_kinds": Entry(
        _LOOK,
        "Kinds of probe",
        "Five sites with the control task, cross-validated, beside scikit-learn's own estimator on the same folds.",
        _kinds,
    ),
    "gdv": Entry(
        _LOOK,
        "Class separation with its null",
        "The separation (GDV) of 12 classes with a null of 200 permutations.",
        _gdv,
    ),
    "similarity": Entry(
        _LOOK,
        "Similarity of all pairs of layers",
        "Unbiased CKA of all pairs, beside a loop over pairs that keeps each layer's Gram matrix. Same numbers.",
        _similarity,
    ),
    "survey": Entry(
        _LOOK, "The default battery", "20,000 rows, 6 sites of width 384, 12 classes.", _survey
    ),
    "ksg": Entry(
        _LOOK,
        "Mutual information by neighbours",
        "KSG by a tree, beside scikit-learn. Its own function takes one column a side; for more columns its trees are put together by the same formula.",
        _ksg,
    ),
    "mutual_information_tasks": Entry(
        _LOOK,
        "Mutual information: right, or refused",
        "Published tasks with exact answers, 2,000 rows each.",
        _tasks,
    ),
    "information_plane": Entry(
        _LOOK, "Information planes", "The 12-bit task of 2017, 8,000 epochs, 54 snapshots.", _plane
    ),
    "layer_skip": Entry(
        _IF,
        "Skipping each block",
        "All effects on all later blocks and on the output, beside the loop of hooks that is written by hand.",
        _skip,
    ),
    "back_patching": Entry(
        _IF, "Back-patching every pair", "16 blocks of width 256, prompts of 20 tokens.", _back
    ),
    "causal_tracing": Entry(
        _IF,
        "Causal tracing",
        "One prompt of 20 tokens, 12 blocks, ten draws of noise, every block and position.",
        _tracing,
    ),
    "integrated_gradients": Entry(
        _IF,
        "Integrated gradients",
        "Evaluations that the midpoint rule needs to be as complete as 256 left ends.",
        _gradients,
    ),
    "sae_training": Entry(
        _SAE,
        "Training",
        "A TopK dictionary: width 384, 6,144 latents, k = 32, batches of 4,096 rows, beside the trainer of SAELens in the same run.",
        _sae,
    ),
    "sae_rows": Entry(
        _SAE,
        "Rows from a store",
        "What reading shuffled batches from disk adds to a step.",
        _sae_rows,
    ),
    "sae_stories": Entry(
        _SAE,
        "A real dictionary",
        "512 latents on the middle layer of a story model, 5 million rows, measured on other stories.",
        _sae_stories,
    ),
    "gpu_sae": Entry(
        _SAE,
        "Training, on CUDA",
        "Five shapes, dense, compiled and sparse steps, beside the encoder's product alone.",
        _none,
    ),
}
"""Benchmark -> how it is told, in the order of the page."""
