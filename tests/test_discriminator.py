import torch

from autolink.generation.discriminator import PatchDiscriminator


def test_a_logit_a_patch() -> None:
    assert PatchDiscriminator(4)(torch.rand(2, 3, 32, 32), torch.rand(2, 1, 32, 32)).shape == (2, 1, 4, 4)


def test_it_reads_the_edge_map_too() -> None:
    torch.manual_seed(0)
    discriminator, images = PatchDiscriminator(4), torch.rand(1, 3, 32, 32)
    with_edges, without = (discriminator(images, torch.full((1, 1, 32, 32), value)) for value in (1.0, 0.0))
    assert (with_edges - without).abs().max() > 1e-3
