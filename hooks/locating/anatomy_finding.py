"""An anatomy as a finding: a table of sites and checks, and a picture of one block with verdicts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from layerscope.distribution import many
from layerscope.finding import Finding, Provenance
from layerscope.hooks.anatomy import Anatomy
from layerscope.hooks.sites import layer_of
from layerscope.wording import shortened

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


@dataclass(frozen=True)
class AnatomyFinding(Finding):
    """Where the layers of one model are, and whether the numbers agree.

    The table has one row for each site and one for each check: `row` ("site" or "check"), `name`,
    `layer`, `where`, `shape`, `passed`, `error`, `detail`.
    """

    question: ClassVar[str] = "Where are the layers of this model, and do the numbers agree?"

    @property
    def sites(self) -> pd.DataFrame:
        """The rows that are sites, in forward order."""
        return self.table[self.table["row"] == "site"]

    @property
    def checks(self) -> pd.DataFrame:
        """The rows that are checks."""
        return self.table[self.table["row"] == "check"]

    def answer(self) -> str:
        """Blocks, width and sites, and how many checks passed with which error."""
        parameters, checks = self.provenance.parameters, self.checks
        run = checks[checks["passed"].notna()]
        passed, error = int(run["passed"].sum()), run["error"].max()
        width = f" of width {parameters['width']}" if parameters.get("width") else ""
        worst = f", largest relative error {error:.1e}" if run["error"].notna().any() else ""
        verdict = f"{passed} of {len(run)} checks passed{worst}" if len(run) else "no check was run"
        idle = len(checks) - len(run)
        left = f"; {idle} do not apply or were not run" if idle and len(run) else ""
        failed = ", ".join(run["name"][~run["passed"].astype(bool)])
        bad = f" Failed: {failed}." if failed else ""
        return (
            f"{self.provenance.model}: {parameters.get('blocks', 0)} blocks{width}, "
            f"{len(self.sites)} named sites. {verdict[0].upper()}{verdict[1:]}{left}.{bad}"
        )

    def gist(self) -> str:
        """In one sentence."""
        size = self.provenance.parameters
        run = self.checks[self.checks["passed"].notna()]
        wide = f" of width {size['width']}" if size.get("width") else ""
        text = f"The model has {many(size.get('blocks', 0), 'block')}{wide}; "
        failed = list(run["name"][~run["passed"].astype(bool)])
        if failed:
            more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
            return f"{text}{len(failed)} of {len(run)} checks failed: {shortened(failed[0], 40)}{more}."
        if not len(run):
            return f"{text}no check of its layers was run."
        return f"{text}what is measured between them adds up to its output: {len(run)} of {len(run)} checks passed."

    def figure(self) -> go.Figure:
        """One block of each stack: the residual stream, what is added to it, and the verdicts."""
        from layerscope.hooks.locating.anatomy_figure import draw

        return draw(self.table)


def finding(found: Anatomy) -> AnatomyFinding:
    """The finding of one anatomy."""
    import pandas as pd

    table = pd.DataFrame([*_site_rows(found), *_check_rows(found)], columns=_COLUMNS)
    table = table.astype({"layer": "Int64", "passed": "boolean", "error": "float64"})
    about = {"blocks": len(found.blocks), "width": found.width}
    if found.encoder:
        about["encoder_blocks"] = len(found.encoder)
    return AnatomyFinding(
        table=table,
        provenance=Provenance(
            model=found.model, parameters=about, call="layerscope.anatomy(model).finding()"
        ),
        notes=found.notes,
    )


_COLUMNS = ["row", "name", "layer", "where", "shape", "passed", "error", "detail"]


def _site_rows(found: Anatomy) -> Iterator[dict[str, Any]]:
    about = {f"blocks.{b.index}": b for b in found.blocks}
    about |= {f"encoder.blocks.{b.index}": b for b in found.encoder}
    for site, place in found.sites.items():
        block = about.get(site.removesuffix(".resid_pre"))
        detail = f"{block.path}: {block.kind}; returns {block.returns}" if block else ""
        yield {
            "row": "site",
            "name": site,
            "layer": layer_of(site),
            "where": str(place),
            "shape": found.shapes.get(site, ""),
            "detail": detail,
        }


def _check_rows(found: Anatomy) -> Iterator[dict[str, Any]]:
    for check in found.checks:
        yield {
            "row": "check",
            "name": check.name,
            "where": "",
            "shape": "",
            "passed": check.passed,
            "error": check.error,
            "detail": check.detail,
        }
