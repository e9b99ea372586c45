"""Windows of blocks around a centre."""

from __future__ import annotations


def window(centre: int, width: int, n_blocks: int) -> tuple[int, int]:
    """The blocks ``first <= block < end`` of a window, cut off at the ends of the model.

    An even width reaches one block further before the centre than after it, as in Meng et al. 2022
    and Kim et al. 2026.

    >>> window(3, 1, 8), window(3, 3, 8), window(3, 4, 8), window(0, 9, 8)
    ((3, 4), (2, 5), (1, 5), (0, 5))

    Raises:
        ValueError: a width below 1.
    """
    if width < 1:
        raise ValueError(f"a window has at least one block, got {width}")
    return max(0, centre - width // 2), min(n_blocks, centre + -(-width // 2))
