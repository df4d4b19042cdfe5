"""Single images in figures."""

SHARP = 64  # pixels of a side up to which pixels are larger than those of a figure


def draw_image(ax, image, sharp):
    """Draw an image (C, H, W) in [0, 1]: in colour, or in grey where it has not three channels.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
    image : ndarray of float
        Pixels outside [0, 1] are drawn as 0 or 1.
    sharp : bool
        Whether its pixels have sharp edges.
    """
    smooth = "nearest" if sharp else "antialiased"
    if len(image) == 3:
        ax.imshow(image.transpose(1, 2, 0).clip(0, 1), interpolation=smooth)
    else:
        grey = image[0] if len(image) == 1 else image.mean(0)
        ax.imshow(grey, cmap="gray", vmin=0, vmax=1, interpolation=smooth)
