"""Which sites each SAE of a training reads, and which it reconstructs."""

from __future__ import annotations

from collections.abc import Sequence

from layerscope.analyses.sae.fitting.plan import Plan, Sites


def listed(site: int | str | Sequence[int | str] | None) -> list[int | str]:
    """What was asked for, always as a list."""
    if site is None:
        return []
    return [site] if isinstance(site, int | str) else list(site)


def roles(sites: Sites, transcodes: bool, joined: bool) -> tuple[list[Sites], list[Sites]]:
    """Inputs and targets of each SAE per set of options, of the sites as they were found.

    Args:
        sites: All that are read, in the order they were asked for.
        transcodes: Whether the last one is the target of the first.
        joined: Whether one SAE reads them all.

    Raises:
        ValueError: a transcoder of other than two sites.
    """
    if transcodes:
        if len(sites) != 2:
            raise ValueError(
                f"a transcoder goes from one site to one other, these are {', '.join(sites)}"
            )
        return [(sites[0],)], [(sites[1],)]
    if joined:
        return [sites], [sites]
    each: list[Sites] = [(site,) for site in sites]
    return each, each


def refuse_several(plan: Plan) -> None:
    """Raise where one SAE was asked for, and the plan has more.

    Raises:
        ValueError: it has; says what makes them several.
    """
    if plan.group == 1:
        return
    if len(set(plan.inputs)) > 1:
        raise ValueError(
            f"{plan.architecture.name} at several sites ({', '.join(plan.sites)}): pass "
            "architecture='crosscoder' for one dictionary of all of them, or call train_together "
            "for an SAE of each"
        )
    raise ValueError(
        f"train makes one SAE, and these options are for {plan.group} ({'; '.join(plan.names())}); "
        "call train_together"
    )
