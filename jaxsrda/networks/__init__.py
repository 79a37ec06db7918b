"""Networks: layers, the efficient U-Net, the paper's U-Net, 4D-SRDA, and autoencoders of frames.

Each module registers what it builds in `NETWORKS`, by name; importing this room makes them all known.
"""

from jaxsrda.networks import autoencoder, codebook, layers, paper_unet, srda4d, unet
from jaxsrda.networks.registry import NETWORKS, NetworkKind, Sizes, register_network
from jaxsrda.networks.unet import Features

__all__ = [
    "NETWORKS",
    "Features",
    "NetworkKind",
    "Sizes",
    "autoencoder",
    "codebook",
    "layers",
    "paper_unet",
    "register_network",
    "srda4d",
    "unet",
]
