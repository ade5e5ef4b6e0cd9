"""The yacs keys that this package adds to Detectron2's config."""

from detectron2.config import CfgNode as CN


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
    # Gradient share that a bin should get: "per_object", "uniform" or "per_sample".
    cfg.MODEL.DC_LOSS.TARGET = "per_object"

    # --- TinyObjectMapper -----------------------------------------------------------------------
    # Ignored regions in training: "no_loss" hands them to the model, "erase" paints them over.
    cfg.INPUT.IGNORE_REGIONS = "no_loss"
    # With INPUT.CROP.TYPE "absolute": how likely a crop is placed on an object, else anywhere.
    cfg.INPUT.CROP.OBJECT_PROB = 0.7

    # --- Training with train_net.py -------------------------------------------------------------
    # True when MODEL.WEIGHTS holds the bottom-up network only, such as ImageNet weights.
    cfg.MODEL.WEIGHTS_BACKBONE_ONLY = False
    # Moving average of the weights: evaluated, and saved as `model_best`, in place of the raw ones.
    cfg.SOLVER.EMA = CN()
    cfg.SOLVER.EMA.ENABLED = False
    cfg.SOLVER.EMA.DECAY = 0.999
    # How many periodic checkpoints stay on disk.
    cfg.SOLVER.CHECKPOINTS_KEPT = 2
    # `model_best` is the checkpoint with the largest value of this.
    cfg.TEST.BEST_METRIC = "bbox/AP"
