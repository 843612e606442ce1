"""The macro-structure of NAS-Bench-201's networks.

Stem, N cells of C channels, a residual block that halves the image and doubles the channels, N cells, another block,
N cells, batch norm, ReLU, mean over the image, linear classifier. The benchmark has C = 16 and N = 5.
"""

from torch import Tensor, nn

from setn_lab.network.macro import Parts, Site
from setn_lab.network.operations import Norm, normal_conv
from setn_lab.space.protocol import Space

STAGES = 3


class Reduction(nn.Module):
    """The residual block between two stages: C channels in, 2 C out, half the side."""

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.first = normal_conv(channels, 2 * channels, 3, 2, norm)
        self.second = normal_conv(2 * channels, 2 * channels, 3, 1, norm)
        pool = nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)  # an odd side is rounded up, as by `first`
        self.shortcut = nn.Sequential(pool, nn.Conv2d(channels, 2 * channels, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """(b, C, h, w) to (b, 2 C, ceil(h/2), ceil(w/2))."""
        return self.shortcut(x) + self.second(self.first(x))


def layout(
    space: Space, channels: int, repeats: int, image_channels: int, image_size: int, num_classes: int, norm: Norm
) -> tuple[Parts, list[Site]]:
    """What a network of the benchmark has beside its operations, and where the operations stand; as `macro.layout`."""
    parts: Parts = [(stem(image_channels, channels, norm), (image_channels, image_size, image_size))]
    sites = []
    side = image_size
    for stage in range(STAGES):
        sites += [Site(0, channels, [(1, side)] * len(space.edges))] * repeats
        if stage < STAGES - 1:
            parts.append((Reduction(channels, norm), (channels, side, side)))
            channels, side = 2 * channels, -(-side // 2)
    parts += [
        (norm(channels), (channels, side, side)),
        (nn.Linear(channels, num_classes), (channels,)),
    ]
    return parts, sites


def stem(image_channels: int, channels: int, norm: Norm) -> nn.Sequential:
    """A 3x3 convolution to C channels and a batch norm."""
    convolution = nn.Conv2d(image_channels, channels, 3, padding=1, bias=False)
    return nn.Sequential(convolution, norm(channels))
