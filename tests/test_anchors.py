"""What a checkpoint says of the anchors that its weights are for."""

import json

import pytest
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from torch import nn

from efpnbs_d2.anchors import anchor_text, anchors_of
from efpnbs_d2.engine.recipe import LazyRecipe, YacsRecipe
from efpnbs_d2.modeling.assigners.receptive_field import ReceptiveFieldAnchorGenerator


def _model(generator):
    model = nn.Module()
    model.proposal_generator = nn.Module()
    model.proposal_generator.anchor_generator = generator
    return model


def _anchors(**changes):
    options = {"sizes": [[8], [16]], "aspect_ratios": [[0.5, 1.0]], "strides": [4, 8], "offset": 0}
    return anchors_of(_model(DefaultAnchorGenerator(**options | changes)))


def test_strides_sizes_and_offset_are_noted():
    """At a height of half the width and 64 px^2: 11.31 x 5.66."""
    anchors = _anchors()
    assert anchors == {
        "strides": [4, 8],
        "offset": 0.0,
        "sizes": [[[11.31, 5.66], [8.0, 8.0]], [[22.63, 11.31], [16.0, 16.0]]],
    }
    assert json.loads(json.dumps(anchors)) == anchors  # plain data, as exported files hold it
    assert anchor_text(anchors) == "8, 16 px (height / width 0.5, 1) at strides 4, 8, offset 0"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sizes": [[8], [32]]}, "8, 32 px"),
        ({"sizes": [[8, 12], [16, 24]]}, "8/12, 16/24 px"),
        ({"aspect_ratios": [[1.0, 2.0]]}, "width 1, 2)"),
        ({"strides": [4, 16]}, "strides 4, 16"),
        ({"offset": 0.5}, "offset 0.5"),
    ],
)
def test_each_difference_is_seen_and_said(change, said):
    assert _anchors(**change) != _anchors()
    assert said in anchor_text(_anchors(**change))
    assert said not in anchor_text(_anchors())


def test_rflas_priors_are_anchors_too():
    """Half of the receptive fields 43 and 99 of ResNet-18."""
    anchors = anchors_of(_model(ReceptiveFieldAnchorGenerator(strides=[4, 8], depth=18)))
    assert anchor_text(anchors).startswith("21.5, 49.5 px (height / width 0.5, 1, 2) at strides")


def test_a_model_without_anchors_notes_none():
    assert anchors_of(nn.Linear(2, 2)) is None
    assert anchors_of(_model(nn.Linear(2, 2))) is None


def test_both_config_systems_note_the_same(small_lazy, small_yacs):
    lazy, yacs = LazyRecipe(small_lazy()).build_model(), YacsRecipe(small_yacs()).build_model()
    assert anchors_of(lazy) == anchors_of(yacs) is not None
