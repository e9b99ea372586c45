"""An anatomy as a readable tree, in plain text and in HTML."""

from __future__ import annotations

from html import escape
from itertools import groupby

from layerscope.distribution import many
from layerscope.hooks.anatomy import Anatomy, Block, Check
from layerscope.notebook import card, cared, listing

MARKS = {True: "ok", False: "FAILED", None: "-"}


def tree(found: Anatomy) -> str:
    """Model, blocks with the sites of one block of each kind, head, verdicts."""
    lines = [found.model]
    lines += _line(found, "encoder.embed", "")
    lines += _stack(found, found.encoder, "encoder.blocks")
    lines += _line(found, "encoder.norm", "")
    lines += _line(found, "embed", found.embed or "")
    lines += _stack(found, found.blocks, "blocks")
    lines += _line(found, "norm", "") + _line(found, "logits", found.unembed or "")
    if not found.blocks:
        lines += [f"  {path:<28}{found.shapes.get(path, '')}" for path in found.modules]
    lines += ["checks", *(f"  {_verdict(check)}" for check in found.checks)]
    lines += [f"note: {note}" for note in found.notes]
    return "\n".join(lines)


def _line(found: Anatomy, site: str, via: str, *, within: str = "") -> list[str]:
    """A site of the model, or indented `within` a block; what stands behind names is in one column."""
    if site not in found.sites:
        return []
    place, shape = found.sites[site], found.shapes.get(site, "")
    via = f"  ({via})" if via else ""
    return [f"  {within + site:<28}{shape:<12}  {place}{via}"]


def _stack(found: Anatomy, blocks: tuple[Block, ...], name: str) -> list[str]:
    """Runs of like blocks are shown by their first."""
    lines = []
    for _, run in groupby(blocks, key=lambda block: _pattern(found, block, name)):
        alike = list(run)
        first, last = alike[0], alike[-1]
        span = f"{first.index}" if first is last else f"{first.index}..{last.index}"
        where = first.path if first is last else f"{first.path} .. {last.path}"
        kind = f": {first.kind}" if first.kind else ""
        lines.append(f"  {name}.{span}  {where}{kind}; returns {first.returns}")
        mine = f"{name}.{first.index}."
        for site in (s for s in found.sites if s.startswith(mine)):
            lines += _line(found, site, "", within="  ")
    return lines


def _pattern(found: Anatomy, block: Block, name: str) -> tuple[object, ...]:
    """What two blocks of a kind share: sites, shapes, sublayers."""
    mine = f"{name}.{block.index}."
    sites = [(s.removeprefix(mine), found.shapes.get(s)) for s in found.sites if s.startswith(mine)]
    return (block.kind, block.returns, tuple(sites))


def _verdict(check: Check) -> str:
    error = "" if check.error is None else f" (error {check.error:.1e})"
    return f"{MARKS[check.passed]:<7}{check.name}{error}: {check.detail}"


def html(found: Anatomy) -> str:
    """A fragment for a notebook: verdicts as a table, the tree folded below."""
    failed = [check.name for check in found.checks if check.passed is False]
    checks = [
        (
            MARKS[check.passed],
            check.name,
            "" if check.error is None else f"{check.error:.1e}",
            check.detail,
        )
        for check in found.checks
    ]
    failure = [f"these checks failed: {', '.join(failed)}"] if failed else []
    return card(
        "Anatomy",
        found.model,
        [
            many(len(found.blocks), "block"),
            f"width {found.width:,}" if found.width else "",
            many(len(found.sites), "site"),
        ],
        listing(("", "check", "error", "what was compared"), checks, most=len(checks))
        + cared([*failure, *found.notes])
        + f"<details><summary>All sites</summary><pre>{escape(tree(found))}</pre></details>",
        after='with capture(model, "blocks.*.resid_post") as seen: model(**batch)',
    )
