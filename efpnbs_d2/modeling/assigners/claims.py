"""Who gets a prior that several objects want, and what becomes of an object that got none.

Shapes: G objects; P priors; each object wants its k best priors, best first. `owner` (P,) holds the
index of the object that has each prior, -1 for none.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def award(wanted: Tensor, scores: Tensor, num_priors: int) -> Tensor:
    """Give each wanted prior to the object with the best score for it, of equal ones to the first.

    Args:
        wanted: (G, k) indices of priors.
        scores: (G, k) of the object with the prior.
        num_priors: P.

    Returns:
        owner (P,) int64.

    Source: our own rule. The released codes of RFLA and NWD-RKA give it to the last object.
    """
    objects = torch.arange(len(wanted), device=wanted.device)[:, None].expand_as(wanted)
    return award_pairs(wanted.flatten(), objects.flatten(), scores.flatten(), num_priors)


def award_pairs(priors: Tensor, objects: Tensor, scores: Tensor, num_priors: int) -> Tensor:
    """As `award`, of C claims: prior, object and score (C,) each."""
    order = torch.argsort(objects, stable=True)
    order = order[torch.argsort(scores[order], descending=True, stable=True)]
    order = order[torch.argsort(priors[order], stable=True)]
    priors, objects = priors[order], objects[order]
    first = torch.ones_like(priors, dtype=torch.bool)
    first[1:] = priors[1:] != priors[:-1]
    owner = torch.full((num_priors,), -1, dtype=torch.int64, device=priors.device)
    owner[priors[first]] = objects[first]
    return owner


def provide(owner: Tensor, wanted: Tensor, scores_of: Callable[[int], Tensor]) -> None:
    """Give every object without a prior one, in place.

    It takes the best prior it wants from an object that keeps another one; where there is none,
    the best of all priors that nobody has; and only then of all that others can spare. It goes
    without when all priors are somebody's last.

    Args:
        owner: (P,) int64.
        wanted: (G, k) indices of priors.
        scores_of: the scores (P,) of an object with all priors.

    Source: our own rule, so that no object is left out because another one has the same box.
    """
    held = torch.bincount(owner[owner >= 0], minlength=len(wanted))
    for loser in (held == 0).nonzero()[:, 0].tolist():
        rivals = owner[wanted[loser]]
        spare = (held[rivals] > 1).nonzero()[:, 0]
        if len(spare) > 0:
            prior = wanted[loser, spare[0]]
            held[owner[prior]] -= 1
        else:
            available = owner < 0
            if not available.any():
                available = held[owner] > 1
            if not available.any():
                return
            prior = torch.where(available, scores_of(loser), -1).argmax()
            if owner[prior] >= 0:
                held[owner[prior]] -= 1
        owner[prior] = loser
        held[loser] += 1
