"""Faster R-CNN on AI-TOD v2, anchors ranked by NWD (NWD-RKA): published with 21.4 AP.

The batch is stated nowhere; 2 images follow from the 7,004 iterations an epoch of its log.
"""

from detectron2.config import LazyCall as L

from efpnbs_d2.modeling import RankingAssigner

from .aitodv2_faster_rcnn import dataloader, lr_multiplier, model, optimizer, train

model.proposal_generator.anchor_matcher = L(RankingAssigner)(
    topk=2, constant=12.7, negative_below=0.3
)
train.output_dir = "output/literature/aitodv2_faster_rcnn_nwd_rka"
