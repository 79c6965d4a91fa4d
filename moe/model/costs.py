"""What a mixture holds and what an input costs, by counting."""


def parameters(ne: int, hidden: int, inputs: int, classes: int) -> int:
    """Weights and biases of a router over ne experts and of the experts."""
    expert = inputs * hidden + hidden + hidden * classes + classes
    return ne * (inputs + expert)


def flops_per_sample(ne: int, k: int, hidden: int, inputs: int, classes: int) -> int:
    """Floating-point operations of one forward pass: 2 for each weight that an input meets, which
    are those of the router and of k experts; biases and softmaxes are left out."""
    return 2 * (inputs * ne + k * (inputs * hidden + hidden * classes))
