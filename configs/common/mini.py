"""Real data sets on a CPU: a narrow ResNet-18 from scratch, on small crops, for a short run."""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L

from efpnbs_d2.data.augmentation import RandomScale

from .augmentation import crop_and_flip
from .parts import narrow, train_from_scratch, use_resnet
from .schedule import adamw, warmup_cosine


def fit_for_a_cpu(model, dataloader, train, output_dir):
    """Shrink a recipe in place; return its optimizer and learning-rate schedule."""
    use_resnet(model, 18)
    train_from_scratch(model)
    narrow(model, channels=64, fc_dim=256)

    dataloader.train.mapper.augmentations = crop_and_flip(size=(256, 256), object_prob=0.9)
    dataloader.train.total_batch_size = train.reference_batch_size = 4
    dataloader.train.num_workers = dataloader.test.num_workers = 2

    train.init_checkpoint = ""
    train.init_backbone_only = False
    train.clip_grad_norm = 35.0
    train.max_iter = 800
    train.eval_period = train.checkpointer.period = 800
    train.output_dir = output_dir
    return adamw(lr=5e-4), warmup_cosine(warmup=0.05)


def fewer_samples(model):
    """Take no more proposals and samples than a crop of 256 px has to offer."""
    # Non-maximum suppression of 3,000 proposals a level would take a quarter of a training step.
    model.proposal_generator.pre_nms_topk[0] = 1000
    model.proposal_generator.post_nms_topk = (500, 1000)
    model.roi_heads.batch_size_per_image = 128


def enlarge_twice(dataloader, short_edge):
    """Show objects twice as large: in crops of 128 px, and in test images of this short edge.

    On images of another short edge, testing would enlarge more or less than training.
    """
    crop = dataloader.train.mapper.augmentations[0]
    crop.size = (128, 128)
    dataloader.train.mapper.augmentations.append(L(RandomScale)(low=2, high=2))
    dataloader.test.mapper.augmentations = [
        L(T.ResizeShortestEdge)(short_edge_length=2 * short_edge, max_size=4096)
    ]
