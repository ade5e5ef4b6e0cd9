"""Valid cells of padded maps: counts, masks and border replication, by hand."""

import torch

from efpnbs_d2.modeling.padding import replicate_border, valid_cells, valid_mask

CPU = torch.device("cpu")


def test_an_image_owns_the_cells_that_it_touches() -> None:
    # At stride 8: 16 px are 2 cells, 17 px begin a third, 1 px begins the first.
    cells = valid_cells([(16, 17), (1, 24)], 8, (3, 3), CPU)
    assert cells is not None
    assert cells.tolist() == [[2, 3], [1, 3]]


def test_nothing_to_do_when_every_image_fills_the_grid() -> None:
    assert valid_cells([(17, 24), (24, 17)], 8, (3, 3), CPU) is None
    assert valid_cells(None, 8, (3, 3), CPU) is None


def test_tensor_sizes_count_like_integers() -> None:
    as_pairs = [(torch.tensor(16), torch.tensor(17))]
    as_tensors = [torch.tensor([16, 17])]
    for sizes in (as_pairs, as_tensors):
        cells = valid_cells(sizes, 8, (3, 3), CPU)
        assert cells is not None
        assert cells.tolist() == [[2, 3]]


def test_mask_covers_each_images_own_cells() -> None:
    mask = valid_mask(torch.tensor([[1, 2], [2, 1]]), (2, 3))
    assert mask.int().tolist() == [[[[1, 1, 0], [0, 0, 0]]], [[[1, 0, 0], [1, 0, 0]]]]


def test_padding_becomes_the_nearest_valid_cell() -> None:
    features = torch.tensor([[1.0, 2.0, 9.0], [3.0, 4.0, 9.0], [9.0, 9.0, 9.0]]).view(1, 1, 3, 3)
    replicated = replicate_border(features, torch.tensor([[2, 2]]))
    assert replicated.squeeze().tolist() == [[1, 2, 2], [3, 4, 4], [3, 4, 4]]
