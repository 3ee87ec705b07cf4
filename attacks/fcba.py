"""FCBA: the attackers share all combinations of the trigger's parts, so that a model learns each of them.

Liu, Zhang, Feng, Yang, Xu, Man, Yang 2024, "Beyond Traditional Threats: A Persistent Backdoor Attack on Federated Learning" (AAAI;
arXiv 2404.17617): DBA gives each attacker one of m parts, FCBA each one of the 2^m - 2 combinations that are neither nothing
nor the whole. From memory of the paper, and from a public code that has 14 attackers for m = 4. Ours are cut as ``dba`` cuts, and
ordered by their number of parts, then from left to right. Attacker j takes the combination j; where there are more attackers
than combinations, they take them in turn. Where there are fewer, attacker j of µ has the combinations j, j + µ, j + 2µ …, and of
its images the first carries the first of these, and so on, over and over. The test's is the whole trigger.
"""

import itertools
from dataclasses import replace

import torch

from attacks import Attack
from attacks._parts import InTurn, split_of
from oleander.datasets.space import ImageSpace
from oleander.settings.ranges import Count
from oleander.system.errors import UserError

EXCEPT = {"parts_do_not_overlap": "combinations have parts in common"}
MOST_PARTS = 8
"""254 combinations; each further part doubles them."""


def fcba(attack: Attack, *, fcba_parts: Count = 4, malicious: int, patch_size: int, image: ImageSpace) -> Attack:
    """Share the 2^m - 2 combinations of the trigger's m parts among the attackers (blend+fcba; alone: the patch; Liu et al. 2024).

    Args:
        attack: the steps before this one.
        fcba_parts: Vertical parts m that the trigger before it is cut into (2 to 8).
        malicious: how many attackers share them; with 0 only the test's whole trigger is left.
        patch_size: side of the square where fcba stands alone, in pixels.
        image: what the dataset's images are.

    Raises:
        UserError: fewer parts than two, more than eight or than the trigger has columns, or a trigger that cannot be cut.
    """
    attack, trigger = split_of(attack, "fcba", patch_size, image)
    columns = trigger.columns()
    if not 2 <= fcba_parts <= min(MOST_PARTS, len(columns)):
        raise UserError(
            f"--fcba-parts {fcba_parts}: wanted 2 to {min(MOST_PARTS, len(columns))}, since the trigger has {len(columns)} columns "
            f"to split, and m parts have 2^m - 2 combinations"
        )
    parts = columns.tensor_split(fcba_parts)
    chosen = [c for size in range(1, fcba_parts) for c in itertools.combinations(parts, size)]
    stamps = [trigger.only(torch.cat(combination)) for combination in chosen]
    shares = [stamps[j % len(stamps) :: malicious] for j in range(malicious)]
    return replace(attack, parts=tuple(share[0] if len(share) == 1 else InTurn(share) for share in shares))
