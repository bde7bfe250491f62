"""What fixes the shape of a translator, and what cannot be."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TranslatorConfig:
    """Everything that fixes the translator's shape."""

    keypoints: int = 16
    """Keypoints of the stage one that drives it."""
    size: int = 64
    """Side of the pictures in pixels."""
    bones: int = 16
    """Strongest edges of the graph, each of which proposes a motion."""
    channels: tuple[int, ...] = (16, 32, 64, 128)
    """Widths of encoder and decoder, the first at full resolution."""
    motion_size: int = 32
    """Side of the motion field in pixels."""
    motion_channels: tuple[int, ...] = (32, 64, 128)
    """Widths of the network that mixes the proposals."""
    reach: float = 0.02
    """Squared distance over which a bone's proposal is favoured at first, in [-1, 1] units."""

    def __post_init__(self) -> None:
        for name in ("channels", "motion_channels"):  # JSON gives lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
        edges = self.keypoints * (self.keypoints - 1) // 2
        if not 1 <= self.bones <= edges:
            raise ValueError(f"--bones must be 1 to {edges}, the edges of {self.keypoints} keypoints, got {self.bones}")
        if min(len(self.channels), len(self.motion_channels)) < 2 or min(self.channels + self.motion_channels) < 1:
            raise ValueError("--channels and --motion-channels need at least two positive widths each")
        for name, side, levels in (
            ("size", self.size, len(self.channels)), ("motion-size", self.motion_size, len(self.motion_channels)),
        ):  # fmt: skip
            if side < 1 or side % 2 ** (levels - 1):
                raise ValueError(f"--{name} must be a multiple of {2 ** (levels - 1)} for its widths, got {side}")
        if self.size % self.motion_size:
            raise ValueError(f"--motion-size must divide --size {self.size}, got {self.motion_size}")
        if not self.reach > 0:
            raise ValueError(f"--reach must be above zero, got {self.reach}")
