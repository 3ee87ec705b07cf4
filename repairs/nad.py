"""NAD, neural attention distillation: a fine-tuned copy teaches the model where to look on clean images.

Li, Lyu, Koren, Lyu, Li, Ma 2021, "Neural Attention Distillation: Erasing Backdoor Triggers from Deep Neural Networks" (ICLR; arXiv
2101.05930). The teacher is the model fine-tuned on clean images. The student is the model again, trained on the same images to
minimise CE + β Σ_l D_l, where D_l compares the attention of the two in layer l: A = Σ_c F_c² over the channels of a map F, divided
by its norm. As in the authors' code D is the mean squared difference over images and pixels; the paper's equation, as we remember
it, has the norm of the difference, which has no gradient where the two agree.

Layers: the authors take a WideResNet's three groups of blocks; we take the last map of each size at which the model has a
convolution, which in a ResNet are the same, and weigh all alike (their code has 0, 0 and 5,000 as its latest defaults). Their
learning rate falls from 0.1; ours stays as it is, and momentum and weight decay are the clients' own. The student's images are
cropped and flipped otherwise than the teacher's. The teacher answers with statistics of its own, not the batch's.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oleander.datasets.space import ImageSpace
from oleander.learning.parameters import Layout, ModelState, arrays_of
from oleander.learning.root import Root
from oleander.learning.training import Hooks, Tensors
from oleander.settings.ranges import Count, NotNegative, Positive
from repairs._layers import map_sizes, maps_of
from strategies import Modules, RuleError


def nad(
    model: ModelState, *, root: Root, layout: Layout, module: Modules, image: ImageSpace,
    finetune_epochs: int, finetune_lr: float,
    nad_epochs: Count = 20, nad_lr: Positive = 0.01, nad_beta: NotNegative = 1000.0,
) -> ModelState:  # fmt: skip
    """Train the model to look where a fine-tuned copy of it looks, on clean images (Li et al. 2021).

    Args:
        model: the global model after the last round; left as it is.
        root: the server's clean images.
        layout: which tensor the numbers belong to.
        module: makes the network.
        image: what images are.
        finetune_epochs: the teacher's passes over those images, as finetune's.
        finetune_lr: the teacher's learning rate, as finetune's.
        nad_epochs: The student's passes over them.
        nad_lr: The student's learning rate (> 0).
        nad_beta: What the distance of the attention maps counts in the loss, β (>= 0); with 0 it is fine-tuning.

    Raises:
        RuleError: a model without a convolution that gives more than a pixel.
    """
    teacher, student = module(model), module(model)
    if not map_sizes(student, image):
        raise RuleError("nad compares maps of convolutions, and none here gives more than one pixel")
    root.fit(teacher, 0, local_epochs=finetune_epochs, lr=finetune_lr)
    teacher.eval()
    with maps_of(teacher) as theirs, maps_of(student) as own:

        def loss(found: Tensor, _weights: Tensors) -> Tensor:
            return found + nad_beta * distance(own, theirs)

        @torch.no_grad()
        def ask(_student: nn.Module, given: tuple[Tensor, ...]) -> None:
            teacher(*given)

        asking = student.register_forward_pre_hook(ask)
        root.fit(student, 1, [Hooks(loss=loss)], local_epochs=nad_epochs, lr=nad_lr)
        asking.remove()
    return layout.flatten(arrays_of(student))


def distance(own: dict[tuple[int, ...], Tensor], theirs: dict[tuple[int, ...], Tensor]) -> Tensor:
    """Σ over the sizes of the mean squared difference of two models' attention."""
    return torch.stack([F.mse_loss(attention(own[size]), attention(theirs[size])) for size in own]).sum()


def attention(maps: Tensor) -> Tensor:
    """Where a layer looks: the sum of squares over the channels of (b, c, h, w), of norm 1 for each image: (b, h · w)."""
    return F.normalize(maps.float().square().sum(dim=1).flatten(1), dim=1)
