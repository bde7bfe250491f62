"""Which noise gives a picture's appearance: an encoder, learned beside the generator, and what random noise follows."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEATURE_WIDTHS = (32, 48, 64, 64, 128)
"""Of the `ProjectedFeatures` of a picture."""

HIDDEN = 256

RATE = 1e-3
"""How fast a class's distribution follows, a picture."""

FLOOR = 1e-3
"""The least variance, so that there is a square root."""

FIRST_LOG_VARIANCE = -4.0
"""At the beginning a picture's noise is nearly certain; were it as wide as the prior, it would never be listened to."""

FREE = 60.0
"""Nats that the noise of a picture may tell of it at no cost: without, it tells nothing before it can tell anything."""


class AppearanceEncoder(nn.Module):
    """`ProjectedFeatures` of a picture -> mean and log variance of its noise (Kingma and Welling, 2014).

    Of each feature mean and deviation over the picture count (Huang and Belongie, 2017), which tell little of where
    things are. Random appearances are drawn as pictures' are distributed, a normal distribution for each class (Ghosh
    et al., 2020): what an appearance of no picture would be, the generator never learns.
    """

    mean: Tensor
    """(C, latent), of each class's noise; zero at the beginning."""
    covariance: Tensor
    """(C, latent, latent), of each class's noise; the identity at the beginning.

    Not the mean of its products with itself: as weights change, the mean wanders, and an average of what was kept over
    many steps would take that for variance.
    """

    def __init__(self, latent: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(classes, latent))
        self.register_buffer("covariance", torch.eye(latent).repeat(classes, 1, 1))
        self.first = nn.Linear(2 * sum(FEATURE_WIDTHS), HIDDEN)
        self.last = nn.Linear(HIDDEN, 2 * latent)
        with torch.no_grad():
            nn.init.kaiming_normal_(self.first.weight, 0.2)
            centre, spread = self.last.weight.chunk(2)
            centre.normal_(0, (2 / HIDDEN) ** 0.5)
            spread.zero_()
            self.last.bias.zero_()[latent:] = FIRST_LOG_VARIANCE

    def forward(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """(B, C, h, w) at several depths -> mean and log variance, (B, latent) each."""
        moments = [moment for f in features for moment in (f.float().mean((2, 3)), f.float().std((2, 3), correction=0))]
        x = torch.cat([F.layer_norm(moment, moment.shape[1:]) for moment in moments], 1)
        mean, log_variance = self.last(F.leaky_relu(self.first(x), 0.2)).float().chunk(2, 1)
        return mean, log_variance.clamp(-8, 8)

    @torch.no_grad()
    def observe(self, noise: Tensor, classes: Tensor) -> None:
        """Let the distributions follow the noise (B, latent) of pictures of classes (B,)."""
        for n in classes.unique().tolist():
            of_class = noise[classes == n].float()
            rate = 1 - (1 - RATE) ** len(of_class)
            self.mean[n].lerp_(of_class.mean(0), rate)
            deviation = of_class - self.mean[n]
            self.covariance[n].lerp_((deviation[:, :, None] * deviation[:, None]).mean(0), rate)  # no half precision

    def distributed(self, normal: Tensor, classes: Tensor) -> Tensor:
        """Normal noise (B, latent) -> noise distributed as that of pictures of classes (B,)."""
        with torch.autocast(normal.device.type, enabled=False):
            variances, axes = torch.linalg.eigh(self.covariance)
            root = axes * variances.clamp(min=FLOOR).sqrt()[:, None] @ axes.mT  # of all roots the symmetric one
            noise: Tensor = self.mean[classes] + (root[classes] @ normal.float()[:, :, None])[:, :, 0]
        return noise


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL of normal distributions (B, D) from the standard one beyond `FREE` nats: a mean over pictures."""
    kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
    return F.relu(kl - FREE).mean()
