"""Images in figures."""

SMALL = 64  # pixels of the longer side, up to which an image is shown pixel by pixel


def draw_image(ax, image):
    """Draw an image: in colour, or in grey where it has other than three channels.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
    image : ndarray of float, shape (C, H, W)
        Pixels outside [0, 1] are drawn as 0 or 1.
    """
    # Pixels have sharp edges as long as they are larger than those of the figure.
    smooth = "nearest" if max(image.shape) <= SMALL else "antialiased"
    if len(image) == 3:
        ax.imshow(image.transpose(1, 2, 0).clip(0, 1), interpolation=smooth)
    else:
        grey = image[0] if len(image) == 1 else image.mean(0)
        ax.imshow(grey, cmap="gray", vmin=0, vmax=1, interpolation=smooth)
