"""The yacs keys that this package adds to Detectron2's config, and which system a file is of."""

import re
from pathlib import Path

from detectron2.config import CfgNode as CN


def is_lazy(config_file: str | Path) -> bool:
    """Whether a config file is a LazyConfig: a .py, or the `config.yaml` of such a run's folder."""
    if str(config_file).endswith(".py"):
        return True
    return re.search("^model:", Path(config_file).read_text("utf-8", "replace"), re.M) is not None


def add_efpnbs_config(cfg: CN) -> None:
    """Add every key of this package to `cfg`, in place.

    The defaults equal those of the classes' signatures (a test compares them), so a key left alone
    means the same in both config systems.

    Args:
        cfg: a config from `detectron2.config.get_cfg()`.
    """
    # --- E-FPN-BS: MODEL.BACKBONE.NAME "EFPNBS" -------------------------------------------------
    cfg.MODEL.EFPN_BS = CN()
    # Registered backbone below the pyramid, e.g. "build_resnet_backbone".
    cfg.MODEL.EFPN_BS.BOTTOM_UP = "build_resnet_backbone"
    # High levels whose semantics CEM compresses into a context map, fine to coarse.
    cfg.MODEL.EFPN_BS.SOURCES = ["p5", "p6"]
    # Low levels that receive the context and are gated by FBSM.
    cfg.MODEL.EFPN_BS.TARGETS = ["p2", "p3", "p4"]

    # --- CEM, the context enhancement module ----------------------------------------------------
    cfg.MODEL.CEM = CN()
    cfg.MODEL.CEM.ENABLED = True
    # Width of the compressed context map.
    cfg.MODEL.CEM.CONTEXT_CHANNELS = 64

    # --- FBSM, the foreground-background separation module --------------------------------------
    cfg.MODEL.FBSM = CN()
    cfg.MODEL.FBSM.ENABLED = True
    # Width of the mask head that the target levels share.
    cfg.MODEL.FBSM.MASK_CHANNELS = 32
    # Weight of the mask supervision `loss_fbsm`; 0 leaves the masks to the detection losses.
    # Needs MODEL.META_ARCHITECTURE "TinyObjectRCNN".
    cfg.MODEL.FBSM.LOSS_WEIGHT = 0.0
    # Exponent of the focal modulation |target - mask|^gamma.
    cfg.MODEL.FBSM.FOCAL_GAMMA = 2.0

    # --- DCLoss: MODEL.ROI_HEADS.NAME "DCROIHeads" or "DCCascadeROIHeads" -----------------------
    cfg.MODEL.DC_LOSS = CN()
    # Exponent of target share over measured share; 0 is the stock loss, 1 full equilibrium.
    cfg.MODEL.DC_LOSS.STRENGTH = 0.5
    # Weights are clipped to [1 / LIMIT, LIMIT].
    cfg.MODEL.DC_LOSS.LIMIT = 4.0
    # Momentum of the moving averages of the gradient magnitudes.
    cfg.MODEL.DC_LOSS.MOMENTUM = 0.99
    # Edges of the scale bins: sqrt(area) of the object in original-image pixels (AI-TOD's bins).
    cfg.MODEL.DC_LOSS.BIN_EDGES = [8.0, 16.0, 32.0]
    # Gradient share that a bin should get: "per_sample", "per_object" or "uniform".
    cfg.MODEL.DC_LOSS.TARGET = "per_sample"

    # --- Label assignment: which anchors are trained to find which object ------------------------
    cfg.MODEL.ASSIGNER = CN()
    # Registered rule of the RPN: "ThresholdAssigner" (Detectron2's, with MODEL.RPN.IOU_THRESHOLDS),
    # "RankingAssigner" (NWD-RKA) or "HierarchicalAssigner" (RFLA).
    cfg.MODEL.ASSIGNER.NAME = "ThresholdAssigner"
    cfg.MODEL.THRESHOLD_ASSIGNER = CN()
    # What the thresholds are compared with: "iou", "nwd", "dotd", "rfd_kl" or "rfd_wd".
    cfg.MODEL.THRESHOLD_ASSIGNER.SIMILARITY = "iou"
    # What an object's best anchors must reach to be foreground below the thresholds, and belong to
    # this object; None: any value, and they keep the object they resemble most, as in Detectron2.
    cfg.MODEL.THRESHOLD_ASSIGNER.MIN_QUALITY = None
    cfg.MODEL.RANKING_ASSIGNER = CN()
    # Anchors an object.
    cfg.MODEL.RANKING_ASSIGNER.TOPK = 2
    cfg.MODEL.RANKING_ASSIGNER.SIMILARITY = "nwd"
    # Anchors outside the ranking take no loss from this similarity on; None: they are background.
    cfg.MODEL.RANKING_ASSIGNER.NEGATIVE_BELOW = None
    cfg.MODEL.HIERARCHICAL_ASSIGNER = CN()
    # Priors an object in the first ranking, and in the second one on shrunken priors.
    cfg.MODEL.HIERARCHICAL_ASSIGNER.TOPK = [3, 1]
    # Size of the shrunken priors in that of the priors.
    cfg.MODEL.HIERARCHICAL_ASSIGNER.SHRINK = 0.9
    # Shrunken priors outside both rankings take no loss from this similarity on; None: background.
    cfg.MODEL.HIERARCHICAL_ASSIGNER.NEGATIVE_BELOW = 0.8
    cfg.MODEL.HIERARCHICAL_ASSIGNER.SIMILARITY = "rfd_kl"
    # MODEL.ANCHOR_GENERATOR.NAME "ReceptiveFieldAnchorGenerator": priors as large as what a feature
    # of MODEL.RESNETS sees.
    cfg.MODEL.RECEPTIVE_FIELD_PRIORS = CN()
    # Side of a prior in that of the receptive field.
    cfg.MODEL.RECEPTIVE_FIELD_PRIORS.FRACTION = 0.5
    # sqrt(area) of each level's priors in pixels, in place of those computed; None computes them.
    cfg.MODEL.RECEPTIVE_FIELD_PRIORS.SIZES = None
    cfg.MODEL.RECEPTIVE_FIELD_PRIORS.ASPECT_RATIOS = [0.5, 1.0, 2.0]
    # Which proposals are matched with an object, by MODEL.ROI_HEADS.IOU_THRESHOLDS: as above.
    cfg.MODEL.ROI_HEADS.SIMILARITY = "iou"
    # Which proposals suppress one another: "iou" or "nwd"; MODEL.RPN.NMS_THRESH is its threshold.
    cfg.MODEL.RPN.NMS_TYPE = "iou"
    cfg.MODEL.NWD = CN()
    # C of NWD and DotD wherever they are used, in network-input pixels: mean sqrt(w * h) of the
    # data set's objects. The box losses know "nwd" too (BBOX_REG_LOSS_TYPE).
    cfg.MODEL.NWD.CONSTANT = 12.8

    # --- TinyObjectMapper -----------------------------------------------------------------------
    # Ignored regions in training: "no_loss" hands them to the model, "erase" paints them over.
    cfg.INPUT.IGNORE_REGIONS = "no_loss"
    # With INPUT.CROP.TYPE "absolute": how likely a crop is placed on an object, else anywhere.
    cfg.INPUT.CROP.OBJECT_PROB = 0.7

    # --- Training with train_net.py -------------------------------------------------------------
    # Take the backbone alone from MODEL.WEIGHTS: ImageNet weights, or a detector of other classes.
    cfg.MODEL.WEIGHTS_BACKBONE_ONLY = False
    # Moving average of the weights: evaluated, and saved as `model_best`, in place of the raw ones.
    cfg.SOLVER.EMA = CN()
    cfg.SOLVER.EMA.ENABLED = False
    cfg.SOLVER.EMA.DECAY = 0.999
    # Store feature maps as NHWC: faster convolutions in mixed precision.
    cfg.SOLVER.CHANNELS_LAST = False
    # Parts that a step's images go through the model in, before the optimiser steps.
    cfg.SOLVER.ACCUMULATION = 1
    # Images a step that BASE_LR is meant for; with another IMS_PER_BATCH it is scaled in
    # proportion. 0 never scales it.
    cfg.SOLVER.REFERENCE_BATCH_SIZE = 0
    # How many periodic checkpoints stay on disk.
    cfg.SOLVER.CHECKPOINTS_KEPT = 2
    # `model_best` is the checkpoint with the largest value of this.
    cfg.TEST.BEST_METRIC = "bbox/AP"
