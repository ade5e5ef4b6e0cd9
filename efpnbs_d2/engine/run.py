"""Train or evaluate one recipe."""

import logging
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from detectron2.data import MetadataCatalog
from detectron2.engine import HookBase, create_ddp_model, hooks
from detectron2.evaluation import inference_on_dataset, print_csv_format
from detectron2.layers import FrozenBatchNorm2d
from detectron2.utils import comm
from torch import nn

from ..atomic import remove_leftovers
from ..checkpoint import CARD_KEY, Checkpointer
from ..data import class_names
from ..evaluation.evaluator import ProtocolEvaluator
from ..inference.predictors import category_ids
from .checkpoint_hooks import BestCheckpointer, Evaluation, PeriodicCheckpointer
from .classes import check_class_count, check_same_classes
from .distributed import share_buffers
from .hooks import PredictionPreview, WeightAverage
from .metrics_writer import MetricsWriter
from .preemption import StopAfterStep, stopping_on_sigterm
from .recipe import Recipe
from .trainer import TinyTrainer

logger = logging.getLogger(__name__)

PREVIEW_IMAGES = 4

# What every run writes under one name, so that a new one overwrites an earlier one's.
REPLACED = ("model_final.pth", "model_best.pth")


def train(recipe: Recipe, *, resume: bool = False) -> dict[str, Any]:
    """Train a recipe to its last iteration.

    Args:
        recipe: what to build and how to train it.
        resume: continue from the last whole checkpoint of the output folder, if there is one.

    Returns:
        The metrics of the last evaluation: {data set: {task: {metric: value}}}, or
        {task: {metric: value}} for a single data set.

    Raises:
        ValueError, FileNotFoundError: classes, weights or data do not fit the config.
        FloatingPointError: a loss became NaN or infinite.
        OSError: a checkpoint or the metrics could not be written.
        RuntimeError: another process of the run was killed; `lost_processes_explained` words it.
        SystemExit: SIGTERM ended the run; a checkpoint holds its state.
    """
    options = recipe.options
    card = describe(recipe)
    if comm.is_main_process():
        remove_leftovers(Path(options.output_dir))
        if not resume:
            _start_anew(Path(options.output_dir))
    model = recipe.build_model()
    data_names = recipe.train_names + recipe.test_names
    check_class_count(model, data_names)
    check_same_classes({name: class_names(name) for name in data_names})
    check_random_layers(model, has_weights=bool(options.init_checkpoint))
    logger.info(f"Model:\n{model}")

    on_gpu = options.device.startswith("cuda")
    optimizer = recipe.build_optimizer(model)
    trainer = TinyTrainer(
        create_ddp_model(
            model, device_ids=[comm.get_local_rank()] if on_gpu else None, **options.ddp
        ),
        recipe.build_train_loader(),
        optimizer,
        # -1 asks for a seed, which a checkpoint then keeps.
        seed=options.seed if options.seed >= 0 else comm.shared_random_seed(),
        amp_dtype=options.amp_dtype,
        accumulation=options.accumulation,
        clip_grad_norm=options.clip_grad_norm,
    )
    checkpointer = Checkpointer(
        model,
        options.output_dir,
        # Behind the loader, which reads the annotations: before, nobody knows their ids.
        card={**card, "category_ids": _category_ids(recipe)},
        starts_training=True,
        backbone_only=options.init_backbone_only,
        trainer=trainer,
    )
    results: dict[str, Any] = {}
    trainer.register_hooks(_build_hooks(recipe, model, optimizer, checkpointer, results, resume))
    checkpointer.resume_or_load(options.init_checkpoint, resume=resume)
    with stopping_on_sigterm(trainer):
        start = trainer.iter + 1 if resume and checkpointer.has_checkpoint() else 0
        trainer.train(start, options.max_iter)
    return results


def _start_anew(folder: Path) -> None:
    """Say what a run replaces, and forget which checkpoint was the last of the run before.

    A run that is killed early would else resume that one.
    """
    earlier = [name for name in REPLACED if Path(folder, name).is_file()]
    if earlier:
        logger.warning(
            f"{folder} has {' and '.join(earlier)} of an earlier run, which this run will replace: "
            "name another output folder to keep them, or use --resume to go on with that run"
        )
    Path(folder, "last_checkpoint").unlink(missing_ok=True)


def _build_hooks(
    recipe: Recipe,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    checkpointer: Checkpointer,
    results: dict[str, Any],
    resume: bool,
) -> list[HookBase]:
    """Everything around the steps, in the order it has to run; `results` gets the last metrics."""
    options, period = recipe.options, recipe.options.eval_period
    average = WeightAverage(model, options.ema_decay) if options.ema_decay is not None else None
    evaluated: nn.Module = average.averaged.module if average else model
    # Before the first step: annotations that cannot be scored stop the run now, not in hours.
    evaluators = build_evaluators(recipe)
    check_best_metric(options.best_metric, evaluators)

    def evaluate_now() -> dict[str, Any]:
        share_buffers(evaluated)
        results.clear()
        results.update(evaluate(recipe, evaluated, evaluators))
        return results

    schedule = hooks.LRScheduler(scheduler=recipe.build_lr_scheduler(optimizer))
    every_process = [hooks.IterationTimer(), schedule, *([average] if average else [])]
    evaluation = Evaluation(period, evaluate_now, options.output_dir)
    if not comm.is_main_process():
        return [*every_process, StopAfterStep(), evaluation]

    best = Checkpointer(evaluated, options.output_dir, card=checkpointer.card, tag_last=False)
    return [
        *every_process,
        PeriodicCheckpointer(
            checkpointer,
            options.checkpoint_period,
            kept=options.checkpoints_kept,
            eval_period=period,
        ),
        StopAfterStep(),
        PredictionPreview(
            period, evaluated, _preview_samples(recipe), checkpointer.card["class_names"]
        ),
        evaluation,
        BestCheckpointer(period, best, options.best_metric),
        # Last, so that the metrics of the hooks before it are written.
        MetricsWriter(options.output_dir, options.log_period, resume=resume),
    ]


def evaluate(
    recipe: Recipe, model: nn.Module, evaluators: Mapping[str, ProtocolEvaluator]
) -> dict[str, Any]:
    """Evaluate `model` on every test set of the recipe; metrics as in `train`."""
    results = OrderedDict()
    for name, evaluator in evaluators.items():
        results[name] = inference_on_dataset(model, recipe.build_test_loader(name), evaluator)
        if comm.is_main_process():
            print_csv_format(results[name])
    return next(iter(results.values())) if len(results) == 1 else results


def evaluate_checkpoint(recipe: Recipe, *, resume: bool = False) -> dict[str, Any]:
    """Load the recipe's weights (with `resume`, the output folder's last) and evaluate them.

    Raises:
        ValueError: no weights are named, they belong to another model, have other anchors, or
            their classes are not those of the test sets.
        FileNotFoundError: the file of weights is missing.
    """
    options = recipe.options
    model = recipe.build_model()
    check_class_count(model, recipe.test_names)
    checkpointer = Checkpointer(model, options.output_dir)
    if not options.init_checkpoint and not (resume and checkpointer.has_checkpoint()):
        raise ValueError(
            "nothing to evaluate: name the weights with train.init_checkpoint=FILE "
            "(yacs: MODEL.WEIGHTS FILE)"
        )
    card = checkpointer.resume_or_load(options.init_checkpoint, resume=resume).get(CARD_KEY)
    trained = {"the weights": card["class_names"]} if card else {}
    check_same_classes({**trained, **{name: class_names(name) for name in recipe.test_names}})
    return evaluate(recipe, model, build_evaluators(recipe))


def build_evaluators(recipe: Recipe) -> dict[str, ProtocolEvaluator]:
    """Test set -> the evaluator of its protocol, which the data set's metadata names.

    Raises:
        ValueError, OSError: the annotations of a test set cannot be used.
    """
    folder = Path(recipe.options.output_dir, "inference")
    return {
        name: ProtocolEvaluator(name, output_dir=str(folder / name)) for name in recipe.test_names
    }


def check_best_metric(metric: str, evaluators: Mapping[str, ProtocolEvaluator]) -> None:
    """Refuse to choose the best weights by a number that is never measured.

    Raises:
        ValueError: with the metrics to choose from.
    """
    several = len(evaluators) > 1
    known = [
        f"{name}/bbox/{key}" if several else f"bbox/{key}"
        for name, evaluator in evaluators.items()
        for key in evaluator.metric_names
    ]
    if known and metric not in known:
        raise ValueError(
            f"the best weights are to be chosen by {metric!r}, which is not measured: set "
            f"train.best_metric (yacs: TEST.BEST_METRIC) to one of {', '.join(known)}"
        )


def describe(recipe: Recipe) -> dict[str, Any]:
    """What is known of the card that checkpoints carry before data are read."""
    if not recipe.train_names:
        raise ValueError(
            "the config names no training data set; set dataloader.train.dataset.names "
            "(yacs: DATASETS.TRAIN)"
        )
    return {"class_names": class_names(recipe.train_names[0]), "input": recipe.input_scale}


def _category_ids(recipe: Recipe) -> list[int]:
    name = recipe.train_names[0]
    return category_ids(MetadataCatalog.get(name), len(class_names(name)))


def check_random_layers(model: nn.Module, *, has_weights: bool) -> None:
    """Refuse to freeze layers that hold random numbers.

    Raises:
        ValueError: layers are frozen and no weights are loaded.
    """
    if has_weights:
        return
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    frozen += [n for n, module in model.named_modules() if isinstance(module, FrozenBatchNorm2d)]
    if frozen:
        raise ValueError(
            f"{len(frozen)} layers are frozen ({frozen[0]}, ...) but no weights are loaded, so "
            "they would stay random: name the weights with train.init_checkpoint=FILE (yacs: "
            "MODEL.WEIGHTS FILE), or use a from-scratch config"
        )


def _preview_samples(recipe: Recipe) -> list[dict[str, Any]]:
    samples: list[dict[str, Any]] = []
    for name in recipe.test_names[:1]:
        for batch in recipe.build_test_loader(name):
            samples += batch
            if len(samples) >= PREVIEW_IMAGES:
                break
    return samples[:PREVIEW_IMAGES]
