"""Which library wrote a folder or a file, by the files and keys in it."""

from __future__ import annotations

from pathlib import Path

from layerscope.analyses.sae.fitting.checkpoint import NAME as CHECKPOINT
from layerscope.analyses.sae.formats import (
    crosscoder,
    dictionary_learning,
    llama_scope,
    saelens,
    sparsify,
    top_afa,
)
from layerscope.analyses.sae.formats.tensors import open_tensors

FORMATS = (
    "saelens",
    "sparsify",
    "dictionary_learning",
    "openai",
    "gemma_scope",
    "llama_scope",
    "qwen_scope",
    "crosscoder",
    "top_afa",
)

_MARKS: dict[str, tuple[str, ...]] = {
    "saelens": (saelens.CONFIG, saelens.WEIGHTS),
    "sparsify": (sparsify.CONFIG, sparsify.WEIGHTS),
    "llama_scope": (llama_scope.CONFIG,),
    "top_afa": (top_afa.CONFIG, top_afa.WEIGHTS),
}
"""Format of a folder -> the files that only it has together."""

_SINGLE = ("params.npz", "params.safetensors", "ae.pt")
"""Files that are read by themselves, wherever they lie."""

STATISTICS = "statistics.safetensors"
"""What `save` writes beside the weights."""

_ENDINGS = (".pt", ".pth", ".npz", ".safetensors")


def recognise(path: Path) -> str:
    """The format of a folder or file, by the files and keys in it.

    Raises:
        ValueError: none of `FORMATS`, or several SAEs; says what is there.
    """
    folder = path if path.is_dir() else path.parent
    if (path / CHECKPOINT).is_file():
        raise ValueError(unknown(path))
    for name, marks in _MARKS.items():
        there = [(folder / mark).is_file() for mark in marks]
        if all(there) and (path.is_dir() or path.name in marks):
            return name
    file = file_in(path)
    if file is None:
        raise ValueError(unknown(path))
    return _by_keys(file)


def file_in(path: Path) -> Path | None:
    """The one file to read: itself, or of a folder the one that is known or alone."""
    if path.is_file():
        return path
    known = [path / name for name in _SINGLE if (path / name).is_file()]
    found = known or _loose(path)
    return found[0] if len(found) == 1 else None


def unknown(path: Path) -> str:
    """What to say of a path that is none of `FORMATS`, or several."""
    if (path / CHECKPOINT).is_file():
        return (
            f"{path} holds a training that has not ended; the call that began it goes on where it "
            "stopped"
        )
    if path.is_file():
        keys = sorted(open_tensors(path).values)
        there = f"its keys are {', '.join(keys[:12]) or 'none'}" + ", ..." * (len(keys) > 12)
    elif below := _below(path):
        shown = ", ".join(below[:8]) + (", ..." if len(below) > 8 else "")
        return f"{path} holds {len(below)} SAEs: load one of {shown}"
    else:
        names = sorted(one.name for one in path.iterdir())
        there = f"there is {', '.join(names[:12]) or 'nothing'}"
    return (
        f"{path} is no SAE of a known format ({', '.join(FORMATS)}): {there}. "
        "If it is one of them, pass format="
    )


def _by_keys(path: Path) -> str:
    if path.name in (saelens.WEIGHTS, sparsify.WEIGHTS):
        raise ValueError(
            f"{path} lies without its {saelens.CONFIG}: the folder was not written or copied to "
            "the end; save or copy it again"
        )
    if path.name.startswith("layer") and path.name.endswith(".sae.pt"):
        return "qwen_scope"
    tensors = open_tensors(path)
    if "latent_bias" in tensors:
        return "openai"
    if crosscoder.fits(tensors):
        return "crosscoder"
    if path.suffix == ".npz" or "w_enc" in tensors:
        return "gemma_scope"
    if path.suffix != ".safetensors" and dictionary_learning.fits(tensors):
        return "dictionary_learning"
    raise ValueError(unknown(path))


def _loose(folder: Path) -> list[Path]:
    return [
        one for one in sorted(folder.iterdir()) if one.suffix in _ENDINGS and one.name != STATISTICS
    ]


def _below(folder: Path) -> list[str]:
    """Names of the SAEs in a folder that is none itself: folders, or files side by side."""
    marks = {marks[-1] for marks in _MARKS.values()} | {*_SINGLE}
    folders = {one.parent.name for mark in marks for one in folder.glob(f"*/{mark}")}
    files = {one.name for one in _loose(folder)}
    return sorted(folders | (files if len(files) > 1 else set()))
