"""A small network for photographs, in its published shape, for weights trained elsewhere."""

from torch import nn

# Output channels and kernel of each convolution; "pool" halves height and width.
TINY_DARKNET = [(16, 3), "pool", (32, 3), "pool"]
TINY_DARKNET += [(16, 1), (128, 3), (16, 1), (128, 3), "pool"]
TINY_DARKNET += [(32, 1), (256, 3), (32, 1), (256, 3), "pool"]
TINY_DARKNET += [(64, 1), (512, 3), (64, 1), (512, 3), (128, 1)]


class TinyDarknet(nn.Module):
    """Tiny Darknet: fifteen convolutions, a 1 x 1 convolution to the classes, and its mean.

    Parameters
    ----------
    classes : int
    """

    def __init__(self, classes):
        super().__init__()
        layers, channels = [], 3
        for stage in TINY_DARKNET:
            if stage == "pool":
                layers.append(nn.MaxPool2d(2, ceil_mode=True))
                continue
            filters, kernel = stage
            layers += [
                nn.Conv2d(channels, filters, kernel, padding=kernel // 2, bias=False),
                nn.BatchNorm2d(filters, eps=1e-3),
                nn.LeakyReLU(0.1),
            ]
            channels = filters
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Conv2d(channels, classes, 1)

    def forward(self, images):
        return self.classifier(self.features(images)).mean((2, 3))


def tiny_darknet(classes):
    """Build Tiny Darknet (J. Redmon, https://pjreddie.com/darknet/tiny-darknet).

    Trained on ImageNet by its author it takes images in [0, 1], short side 256, centre crop 224,
    without further normalisation.

    Parameters
    ----------
    classes : int

    Returns
    -------
    TinyDarknet
        Maps RGB images (B, 3, H, W) to logits (B, classes).
    """
    return TinyDarknet(classes)
