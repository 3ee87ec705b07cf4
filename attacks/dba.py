"""DBA: the trigger split among the attackers, each of whom trains on one part only.

Xie, Huang, Chen, Li 2020, "DBA: Distributed Backdoor Attacks against Federated Learning" (ICLR 2020). Theirs are four bars
at chosen places; ours cuts any trigger that is a picture (patch, blend) into vertical parts as equal as possible.
"""

from dataclasses import replace

from attacks import Attack
from attacks._overlay import Overlay
from attacks.patch import patch
from oleander.datasets.space import ImageSpace
from oleander.system.errors import UserError


def dba(attack: Attack, *, malicious: int, patch_size: int, image: ImageSpace) -> Attack:
    """Split the trigger before it (blend+dba; alone: the patch) into µ vertical parts, one for each attacker (Xie et al. 2020).

    Args:
        attack: the steps before this one.
        malicious: µ, the number of parts; with 0 only the test's whole trigger is left.
        patch_size: side of the square where dba stands alone, in pixels.
        image: what the dataset's images are.

    Raises:
        UserError: more parts than the trigger has columns, or a trigger that is not a picture or does not stay as it is.
    """
    if attack.trigger is None:
        attack = patch(attack, patch_size=patch_size, image=image)
    if not isinstance(attack.trigger, Overlay):
        raise UserError("--attack: dba splits triggers that are a picture (patch, blend), not the one before it")
    if attack.shaped:
        raise UserError("--attack: dba splits a trigger that stays as it is, and the one before it adapts")
    columns = attack.trigger.columns()
    if malicious > len(columns):
        raise UserError(
            f"--attack dba: {malicious} malicious clients, but the trigger has only {len(columns)} columns to split"
        )
    if not malicious:
        return attack
    parts = tuple(attack.trigger.only(part) for part in columns.tensor_split(malicious))
    return replace(attack, parts=parts)
