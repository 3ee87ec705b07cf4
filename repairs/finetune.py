"""Fine-tuning: go on training the final model on clean images of the server's own.

The plainest repair, and what others are compared with (Liu, Dolan-Gavitt, Garg 2018, "Fine-Pruning", RAID; arXiv 1805.12185, §4).
The images are the server's root set: training images that no client was dealt. The training is the clients' own (batches,
momentum, weight decay, augmentation), with a learning rate and a number of epochs of its own.
"""

from oleander.learning.parameters import ModelState
from oleander.learning.root import Root
from oleander.settings.ranges import Count, Positive


def finetune(model: ModelState, *, root: Root, finetune_epochs: Count = 10, finetune_lr: Positive = 0.01) -> ModelState:
    """Train the final model on clean images of the server's own (Liu et al. 2018, the baseline of fine-pruning).

    Args:
        model: the global model after the last round; left as it is.
        root: the server's clean images.
        finetune_epochs: Passes over those images.
        finetune_lr: Learning rate (> 0).
    """
    update = root.update(model, 0, local_epochs=finetune_epochs, lr=finetune_lr)
    return ModelState(model.weights + update.delta, model.statistics + update.statistics)
