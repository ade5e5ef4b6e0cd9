"""Priors as large as what a feature sees: RFLA's replacement for anchors of chosen sizes.

All boxes are xyxy in network-input pixels.
"""

from collections.abc import Sequence

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.anchor_generator import ANCHOR_GENERATOR_REGISTRY, DefaultAnchorGenerator

# Blocks of the stages res2 to res5, and 3x3 convolutions in each of them.
_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
_CONVS_PER_BLOCK = {18: 2, 34: 2, 50: 1, 101: 1}


def receptive_fields(depth: int, *, stride_in_1x1: bool = False) -> tuple[int, ...]:
    """Side of the square of input pixels that a feature of a ResNet depends on.

    A convolution of kernel k adds (k - 1) x the stride of its input. The stem, 7x7 and a 3x3
    pooling, sees 1 + 6 x 1 + 2 x 2 = 11 px. Of ResNet-50, res2 has three 3x3 convolutions at stride
    4: 11 + 3 x 2 x 4 = 35; in res3 the first one still reads stride 4: 35 + 8 + 3 x 2 x 8 = 91.

    =====  ====  ====  ====  =====
    depth  res2  res3  res4  res5
    =====  ====  ====  ====  =====
    18       43    99   211    435
    34       59   179   547    899
    50       35    91   267    427
    101      35    91   811    971
    =====  ====  ====  ====  =====

    Args:
        depth: 18, 34, 50 or 101.
        stride_in_1x1: the first 1x1 convolution of a stage has its stride, so that the 3x3 after it
            reads the larger one, as in Detectron2's R-50.pkl: 35, 99, 291, 483.

    Returns:
        Sides in pixels, of res2 to res5.

    Raises:
        ValueError: the depth is another one.

    Source: the theoretical receptive field as RFLA's released code has it for ResNet-50.
    """
    if depth not in _BLOCKS:
        raise ValueError(
            f"No receptive fields are known for ResNet-{depth}, only for "
            f"{', '.join(map(str, _BLOCKS))}: give the priors' sizes instead"
        )
    convs = _CONVS_PER_BLOCK[depth]
    side, sides, stride = 11, [], 4
    for stage, blocks in enumerate(_BLOCKS[depth]):
        entered = stride
        stride = 4 * 2**stage
        strided_first = convs == 2 or not stride_in_1x1
        side += 2 * (entered if strided_first else stride) + 2 * stride * (blocks * convs - 1)
        sides.append(side)
    return tuple(sides)


@ANCHOR_GENERATOR_REGISTRY.register()
class ReceptiveFieldAnchorGenerator(DefaultAnchorGenerator):
    """Three priors a location, with the area of a part of the level's receptive field.

    Centres lie at index x stride.

    Source: the released code of RFLA (Xu et al.). It takes P6 for a convolution of its own (555
    px); here P6 has the receptive field of P5, of which it is a subsample.
    """

    @configurable
    def __init__(
        self,
        *,
        strides: Sequence[int],
        sizes: Sequence[float] | None = None,
        depth: int = 50,
        stride_in_1x1: bool = False,
        fraction: float = 0.5,
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
    ) -> None:
        """
        Args:
            strides: of each level in pixels: 4 is that of res2, and what is coarser than res5 is a
                subsample of it.
            sizes: sqrt(area) of each level's priors in pixels, in place of those computed.
            depth: of the ResNet below the pyramid.
            stride_in_1x1: as in `receptive_fields`.
            fraction: side of a prior in that of the receptive field.
            aspect_ratios: height / width of the priors.

        Raises:
            ValueError: the ResNet's receptive fields are not known, a level is finer than res2, or
                the sizes are not positive or not as many as the levels.
        """
        if sizes is None:
            if min(strides) < 4:
                raise ValueError(
                    f"No receptive fields are known below a stride of 4, got {list(strides)}: give "
                    f"the priors' sizes instead"
                )
            fields = receptive_fields(depth, stride_in_1x1=stride_in_1x1)
            levels = [min(stride.bit_length() - 3, len(fields) - 1) for stride in strides]
            sizes = [fields[level] * fraction for level in levels]
        if len(sizes) != len(strides):
            raise ValueError(f"{len(strides)} levels need as many sizes of priors, got {sizes}")
        if min(sizes) <= 0:
            raise ValueError(f"The sizes of priors must be positive, got {list(sizes)}")
        super().__init__(
            sizes=[[size] for size in sizes],
            aspect_ratios=[list(aspect_ratios)],
            strides=list(strides),
            offset=0.0,
        )

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict[str, object]:
        options = cfg.MODEL.RECEPTIVE_FIELD_PRIORS
        return {
            "strides": [shape.stride for shape in input_shape],
            "sizes": options.SIZES,
            "depth": cfg.MODEL.RESNETS.DEPTH,
            "stride_in_1x1": cfg.MODEL.RESNETS.STRIDE_IN_1X1,
            "fraction": options.FRACTION,
            "aspect_ratios": options.ASPECT_RATIOS,
        }
