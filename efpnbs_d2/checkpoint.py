"""Checkpoints that are whole or absent, say what they hold, and refuse another model's weights."""

import pickle
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from torch import nn

from .anchors import anchor_text, anchors_of
from .atomic import write_atomically

# Where a checkpoint says what it is: class names, input scale and anchors.
CARD_KEY = "efpnbs_d2"

# Parts that start as the identity (CEM, FBSM) or are running statistics (DCLoss): a stock
# Detectron2 checkpoint has none of them and is still a whole start.
OPTIONAL_PARTS = (".backbone.cem.", ".backbone.fbsm.", ".dc_loss.")
# What only training reads: a detector without it detects the same.
TRAINING_PARTS = (".dc_loss.",)


class Checkpointer(DetectionCheckpointer):
    """`DetectionCheckpointer` with atomic writes, a card and strict loading.

    What is loaded is the whole detector, of the same parts and anchors, but for what a training
    starts from: that takes what fits and says what it leaves out.

    Source: the rules for missing, left-over and mismatched weights are our own.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        card: dict[str, Any] | None = None,
        starts_training: bool = False,
        backbone_only: bool = False,
        tag_last: bool = True,
        **checkpointables: Any,
    ):
        """
        Args:
            model: the model whose weights are saved and loaded.
            save_dir: folder of the checkpoints.
            card: class names and input scale, written into every checkpoint under "efpnbs_d2",
                with the model's anchors.
            starts_training: the file to load is what a training starts from, and may hold parts
                that the model has not, or weights for other anchors; a warning names them.
            backbone_only: of what a training starts from, take nothing but the backbone; the file
                may hold the bottom-up network alone (ImageNet weights) or a whole detector of other
                classes.
            tag_last: whether a save becomes the one that a resumed run continues from.
            checkpointables: objects with `state_dict` that travel with the model.
        """
        super().__init__(model, save_dir, **checkpointables)
        self.card = card or {}
        self.starts_training = starts_training or backbone_only
        self.backbone_only = backbone_only
        self.tag_last = tag_last

    def save(self, name: str, **extra: Any) -> None:
        """Write `name`.pth whole or not at all.

        Raises:
            OSError: the disk is full or the folder not writable; earlier checkpoints are intact.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        anchors = anchors_of(self.model) if self.card else None
        card = {**self.card, **({"anchors": anchors} if anchors else {})}
        data = {"model": self.model.state_dict(), CARD_KEY: card, **extra}
        data |= {key: obj.state_dict() for key, obj in self.checkpointables.items()}
        target = Path(self.save_dir, f"{name}.pth")
        self.logger.info(f"Saving checkpoint to {target}")
        write_atomically(target, lambda file: torch.save(data, file))
        if self.tag_last:
            tag = Path(self.save_dir, "last_checkpoint")
            write_atomically(tag, lambda file: file.write(target.name.encode()))

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As Detectron2's.

        Raises:
            FileNotFoundError: there is no such local file.
            ValueError: the file is no whole checkpoint, or belongs to another model.
        """
        if path and "://" not in path and not Path(path).is_file():
            raise FileNotFoundError(f"checkpoint {path} not found")
        return super().load(path, *args, **kwargs)

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """As Detectron2's, and as `load`; what a run continues from is taken whole."""
        if resume and self.has_checkpoint():
            self.starts_training = self.backbone_only = False
        return super().resume_or_load(path, resume=resume)

    def _load_file(self, filename: str) -> Any:
        try:
            return super()._load_file(filename)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise ValueError(
                f"{filename} is not a whole checkpoint ({str(error).splitlines()[0]}); "
                "use another one of that folder"
            ) from error

    def _load_model(self, checkpoint: Any) -> Any:
        weights = checkpoint["model"]
        if self.backbone_only and any(key.startswith("backbone.") for key in weights):
            weights = {k: v for k, v in weights.items() if k.startswith("backbone.")}
            checkpoint = {**checkpoint, "model": weights}
        self._compare_anchors(checkpoint)
        # Files of other programs (model zoo, ImageNet) hold more than is asked of them.
        is_own = "__author__" not in checkpoint and not checkpoint.get("matching_heuristics")
        incompatible = super()._load_model(checkpoint)
        problems = [
            f"{key} is {found} in the file and {expected} in the model"
            for key, found, expected in incompatible.incorrect_shapes
        ]
        missing = [k for k in incompatible.missing_keys if not self._may_be_missing(k)]
        problems += [f"{key} is missing in the file" for key in missing]
        left_over = [k for k in incompatible.unexpected_keys if not _is_in(TRAINING_PARTS, k)]
        surplus = _parts(left_over) if is_own else []
        if not self.starts_training:
            problems += [f"{part} is in the file and not in the model" for part in surplus]
        if problems:
            raise ValueError(self._refusal(problems, left_over))
        if surplus:
            self.logger.warning(
                "The training starts without these parts of the checkpoint, which its model does "
                f"not have: {'; '.join(surplus)}"
            )
        if is_own:
            incompatible.unexpected_keys.clear()  # else Detectron2 lists every one of them
        return incompatible

    def _compare_anchors(self, checkpoint: Any) -> None:
        trained, present = checkpoint.get(CARD_KEY, {}).get("anchors"), anchors_of(self.model)
        if self.backbone_only or not trained or not present or trained == present:
            return
        found = (
            f"the checkpoint was trained with anchors of {anchor_text(trained)}, and the config's "
            f"are of {anchor_text(present)}"
        )
        if not self.starts_training:
            raise ValueError(
                f"{found}: every box would be wrong; use the config that it was trained with"
            )
        self.logger.warning(f"{found}: the training has to learn its boxes anew")

    def _refusal(self, problems: list[str], left_over: list[str]) -> str:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        advice = "Use the config that it was trained with"
        if any(_is_in(OPTIONAL_PARTS, key) for key in left_over):
            advice += ", one of E-FPN-BS (efpn_bs_*.py; yacs: *-EFPNBS-*.yaml)"
        if self.starts_training:
            advice += (
                ", or, to take the backbone alone, set train.init_backbone_only=True (yacs: "
                "MODEL.WEIGHTS_BACKBONE_ONLY True)"
            )
        listed = "; ".join(problems[:5])
        return f"the checkpoint belongs to another model: {listed}{more}. {advice}"

    def _may_be_missing(self, key: str) -> bool:
        if _is_in(OPTIONAL_PARTS, key):
            return True
        return self.backbone_only and not key.startswith("backbone.bottom_up.")


def _is_in(parts: tuple[str, ...], key: str) -> bool:
    return any(part in f".{key}" for part in parts)


def _parts(keys: Iterable[str]) -> list[str]:
    """Weights by the part of the model that they are of: "backbone.cem (24 weights)"."""
    number = Counter(".".join(key.split(".")[:-1][:2]) for key in keys)
    return [f"{part} ({count} weights)" for part, count in number.items()]


def read_card(path: str | Path) -> dict[str, Any]:
    """The card of a checkpoint: `class_names` (list of str) and `input` (format, test sizes in px).

    `category_ids` are the classes' ids in the annotations of the training; older checkpoints have
    none. `anchors` as `anchors_of` returns them; older checkpoints have none.
    `score_thresholds` are there once they were chosen: `values` (one a class, None where there was
    nothing to choose by) and how. Empty for a checkpoint that another program wrote.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"checkpoint {path} not found")
    try:
        return torch.load(path, map_location="cpu", mmap=True).get(CARD_KEY, {})
    except (RuntimeError, EOFError, pickle.UnpicklingError, AttributeError):
        return {}  # a .pkl of the model zoo, an old format: whether it loads at all is seen later


def update_card(path: str | Path, **entries: Any) -> None:
    """Write the checkpoint anew with entries added to its card; its weights stay as they are.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the checkpoint has no card.
        OSError: the file cannot be written; it is as it was.
    """
    card = read_card(path)
    if not card:
        raise ValueError(
            f"{path} has no card (class names and input scale), expected a checkpoint of "
            "train_net.py"
        )
    data = torch.load(path, map_location="cpu", mmap=True)
    data[CARD_KEY] = {**card, **entries}
    write_atomically(Path(path), lambda file: torch.save(data, file))
