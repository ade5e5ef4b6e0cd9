"""How a run is trained: Detectron2's common options and ours, one comment each."""

train = dict(
    output_dir="./output",
    # Weights to start from: a file, or "" for random ones.
    init_checkpoint="",
    # Take the backbone alone from it: ImageNet weights, or a detector of other classes.
    init_backbone_only=False,
    max_iter=1000,
    # Of weights, data order and augmentations: a run is repeated exactly; -1 draws one.
    seed=0,
    device="cuda",  # falls back to the CPU, with one line, where there is no GPU
    # Mixed precision: dtype "float16" (GPUs, with loss scaling) or "bfloat16" (recent CPUs too).
    amp=dict(enabled=False, dtype="float16"),
    # Store feature maps as NHWC: faster convolutions in mixed precision.
    channels_last=False,
    # Parts that a step's images go through the model in, one after another, before the optimiser
    # steps: a published batch size on one small GPU. BatchNorm sees a part at a time.
    accumulation=1,
    # Images a step that the learning rate is meant for; with another dataloader.train.
    # total_batch_size the rate is scaled in proportion. 0 never scales it.
    reference_batch_size=0,
    # Largest norm of the whole gradient; 0 clips nothing.
    clip_grad_norm=0.0,
    # Moving average of the weights: evaluated, and saved as `model_best`, in place of the raw ones.
    ema=dict(enabled=False, decay=0.999),
    ddp=dict(broadcast_buffers=False, find_unused_parameters=False, fp16_compression=False),
    checkpointer=dict(period=1000, max_to_keep=2),
    eval_period=1000,
    # `model_best` is the checkpoint with the largest value of this.
    best_metric="bbox/AP",
    log_period=20,
)
