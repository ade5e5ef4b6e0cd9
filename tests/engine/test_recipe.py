"""What a recipe makes of its options, the same in both config systems."""

import logging

import detectron2.data.transforms as T
import pytest
import torch
from detectron2.config import LazyCall as L

from efpnbs_d2.engine.recipe import LazyRecipe, YacsRecipe


def _rates(recipe):
    optimizer = recipe.build_optimizer(recipe.build_model())
    return {round(group["lr"], 9) for group in optimizer.param_groups}


@pytest.mark.parametrize(
    ("reference", "expected"), [(2, 1e-3), (4, 5e-4), (16, 1.25e-4), (0, 5e-4)]
)
def test_the_learning_rate_follows_the_images_a_step(small_lazy, small_yacs, reference, expected):
    # Both load 4 images a step at a rate of 5e-4.
    lazy = small_lazy(f"train.reference_batch_size={reference}")
    yacs = small_yacs(
        f"SOLVER.REFERENCE_BATCH_SIZE={reference}", "SOLVER.IMS_PER_BATCH=4", "SOLVER.BASE_LR=5e-4"
    )
    assert _rates(LazyRecipe(lazy)) == {expected}
    assert _rates(YacsRecipe(yacs)) == {expected}


def test_the_scaled_rate_is_said_in_one_line(small_lazy, caplog):
    recipe = LazyRecipe(small_lazy("train.reference_batch_size=16"))
    with caplog.at_level(logging.INFO):
        _rates(recipe)
    lines = [r.getMessage() for r in caplog.records if r.name.startswith("efpnbs_d2")]
    assert [line for line in lines if "Learning rate" in line] == [
        "Learning rate x 0.25: 4 images a step instead of 16; the number of iterations stays, so "
        "the run sees 0.25 times as many images"
    ]


def test_precision_is_what_the_device_has(small_lazy, small_yacs):
    def lazy(dtype):
        return LazyRecipe(small_lazy("train.amp.enabled=True", f"train.amp.dtype={dtype}")).options

    assert lazy("bfloat16").amp_dtype == "bfloat16"
    assert LazyRecipe(small_lazy()).options.amp_dtype is None
    on_cpu = not torch.cuda.is_available()
    assert lazy("float16").amp_dtype == (None if on_cpu else "float16")
    yacs = YacsRecipe(small_yacs("SOLVER.AMP.ENABLED=True")).options
    assert yacs.amp_dtype == (None if on_cpu else "float16")


def test_channels_last_is_the_layout_of_the_weights(small_lazy, small_yacs):
    recipes = [
        LazyRecipe(small_lazy("train.channels_last=True")),
        YacsRecipe(small_yacs("SOLVER.CHANNELS_LAST=True")),
        LazyRecipe(small_lazy()),
    ]
    weights = [r.build_model().backbone.fpn_output2.weight for r in recipes]
    layouts = [w.is_contiguous(memory_format=torch.channels_last) for w in weights]
    assert layouts == [True, True, False]


def test_a_yacs_sampler_of_another_kind_is_left_to_detectron2(scenes, small_yacs):
    plain = YacsRecipe(small_yacs()).build_train_loader()
    repeat = YacsRecipe(
        small_yacs("DATALOADER.SAMPLER_TRAIN=RepeatFactorTrainingSampler")
    ).build_train_loader()
    assert (type(plain).__name__, type(repeat).__name__) == (
        "TrainLoader",
        "AspectRatioGroupedDataset",
    )


def test_a_loader_that_cannot_split_a_step_is_refused(scenes, small_yacs):
    cfg = small_yacs(
        "DATALOADER.SAMPLER_TRAIN=RepeatFactorTrainingSampler", "SOLVER.ACCUMULATION=2"
    )
    with pytest.raises(ValueError, match="ACCUMULATION is 2, but .* RepeatFactorTrainingSampler"):
        YacsRecipe(cfg).build_train_loader()


@pytest.mark.parametrize("also", [True, False])
def test_a_test_image_is_only_changed_as_predictors_can_repeat_it(small_lazy, also):
    """Their scale is the checkpoint card's: `min_size_test` and `max_size_test`."""
    cfg = small_lazy()
    resize = L(T.ResizeShortestEdge)(short_edge_length=64, max_size=96)
    cfg.dataloader.test.mapper.augmentations = [resize]
    scale = LazyRecipe(cfg).input_scale
    assert (scale["min_size_test"], scale["max_size_test"]) == (64, 96)
    cfg.dataloader.test.mapper.augmentations = [*([resize] if also else []), L(T.RandomFlip)()]
    with pytest.raises(ValueError, match="expected none, or one ResizeShortestEdge"):
        LazyRecipe(cfg)


def test_a_test_image_has_one_size(small_lazy):
    cfg = small_lazy()
    resize = L(T.ResizeShortestEdge)(short_edge_length=[48, 64], max_size=96)
    cfg.dataloader.test.mapper.augmentations = [resize]
    with pytest.raises(ValueError, match="to one size"):
        LazyRecipe(cfg)
