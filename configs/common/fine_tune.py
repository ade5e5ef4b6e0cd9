"""Twelve epochs from ImageNet weights, as the published recipes for tiny objects train."""

from .schedule import sgd, warmup_steps

# The published rate of 0.01 is for this many images a step.
BATCH = 8


def twelve_epochs(train, images, output_dir):
    """Set a run's length, start and folder; return its optimizer and learning-rate schedule.

    12 epochs = images / 8 x 12 iterations, a tenth of the rate after epoch 8 and again after 11;
    evaluated and saved every 3 epochs.
    """
    train.max_iter = _iterations(images, 12)
    train.reference_batch_size = BATCH
    train.eval_period = train.checkpointer.period = _iterations(images, 3)
    train.init_checkpoint = "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
    train.init_backbone_only = True
    train.output_dir = output_dir
    steps = [_iterations(images, 8), _iterations(images, 11)]
    return sgd(lr=0.01), warmup_steps(train.max_iter, steps, warmup_iters=500)


def _iterations(images, epochs):
    return -(-images * epochs // BATCH)
