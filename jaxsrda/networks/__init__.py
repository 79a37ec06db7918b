"""Networks: layers, U-Nets, 4D-SRDA, and autoencoders of frames."""
