"""What a mixture holds and what an input costs, by counting."""

PIXELS, CLASSES = 784, 10


def parameters(ne: int, hidden: int) -> int:
    """Weights and biases of a router over ne experts and of the experts."""
    expert = PIXELS * hidden + hidden + hidden * CLASSES + CLASSES
    return ne * (PIXELS + expert)


def flops_per_sample(ne: int, k: int, hidden: int) -> int:
    """Floating-point operations of one forward pass: 2 for each weight that an input meets, which
    are those of the router and of k experts; biases and softmaxes are left out."""
    return 2 * (PIXELS * ne + k * (PIXELS * hidden + hidden * CLASSES))
