"""DBA: the trigger split among the attackers, each of whom trains on one part only.

Xie, Huang, Chen, Li 2020, "DBA: Distributed Backdoor Attacks against Federated Learning" (ICLR 2020; OpenReview rkgyS0VFvr). Theirs
are four bars at chosen places; ours cuts any trigger that is a picture (patch, blend) into vertical parts as equal as possible.
Theirs are four attackers with a part each. Where there are more attackers than parts, as in a population, they take the parts in
turn.
"""

from dataclasses import replace

from attacks import Attack
from attacks._parts import split_of
from oleander.datasets.space import ImageSpace
from oleander.settings.ranges import Count
from oleander.system.errors import UserError


def dba(
    attack: Attack, *, dba_parts: Count | None = None, malicious: int, patch_size: int, image: ImageSpace
) -> Attack:
    """Split the trigger before it (blend+dba; alone: the patch) into µ vertical parts, one for each attacker (Xie et al. 2020).

    Args:
        attack: the steps before this one.
        dba_parts: Parts that the trigger is split into; attackers take them in turn, by rising id (default: one for each attacker).
        malicious: µ; with 0 only the test's whole trigger is left.
        patch_size: side of the square where dba stands alone, in pixels.
        image: what the dataset's images are.

    Raises:
        UserError: more parts than the trigger has columns or than there are attackers, or a trigger that is not a picture or does
            not stay as it is.
    """
    attack, trigger = split_of(attack, "dba", patch_size, image)
    columns = trigger.columns()
    if (dba_parts or malicious) > len(columns):
        what = f"--dba-parts {dba_parts}" if dba_parts else f"--attack dba: {malicious} malicious clients"
        ways = "" if dba_parts else f" (--dba-parts {len(columns)} or fewer: several attackers to a part)"
        raise UserError(f"{what}, but the trigger has only {len(columns)} columns to split{ways}")
    if not malicious:
        return attack
    if (dba_parts or 0) > malicious:
        raise UserError(f"--dba-parts {dba_parts}: more than --malicious {malicious}, so that a part would be nobody's")
    parts = [trigger.only(part) for part in columns.tensor_split(dba_parts or malicious)]
    return replace(attack, parts=tuple(parts[attacker % len(parts)] for attacker in range(malicious)))
