"""``--norm group``: group norm in the place of a model's batch norms, with their scales and shifts.

Wu, He 2018, "Group Normalization" (ECCV; arXiv 1803.08494): each image is normalised by itself, over groups of channels, so there are
no statistics. Hsieh et al. 2020, "The Non-IID Data Quagmire of Decentralized Machine Learning" (ICML; arXiv 1910.00189): where
clients' data differ, batch norm's statistics harm the training, and group norm does not. Here a group has 16 channels, by our
memory the best of the sizes in Wu and He's table 3, or the next greater number that divides the layer's: 24 channels are one group,
58 two of 29, fewer than 16 one.
"""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

CHANNELS = 16
"""In a group, at least, where a layer has as many."""


def groups_of(channels: int) -> int:
    """Into how many groups so many channels are divided."""
    sizes = (size for size in range(min(CHANNELS, channels), channels + 1) if channels % size == 0)
    return channels // next(sizes)


def group_normed(model: nn.Module) -> tuple[nn.Module, int]:
    """The model with group norm for each batch norm, and for how many; a module that stands in two places does so still."""
    places = [(name, m) for name, m in model.named_modules(remove_duplicate=False) if isinstance(m, _BatchNorm)]
    made = {id(norm): _group_norm(norm) for _, norm in places}
    for name, norm in places:
        if not name:
            return made[id(norm)], 1
        model.set_submodule(name, made[id(norm)])
    return model, len(made)


def _group_norm(norm: _BatchNorm) -> nn.GroupNorm:
    channels = norm.num_features
    made = nn.GroupNorm(groups_of(channels), channels, norm.eps, affine=False)
    made.affine, made.weight, made.bias = norm.affine, norm.weight, norm.bias
    return made
