"""Batched matrix products whose factors are rounded as train.precision says."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor


def product(
    a: Float[Tensor, "S M K"],
    b: Float[Tensor, "S K N"],
    out: Float[Tensor, "S M N"],
    precision: str,
) -> None:
    """out = a b, with the factors rounded as precision says; sums are always float32."""
    if precision == "bf16":
        out.copy_(torch.bmm(a.bfloat16(), b.bfloat16()))
    elif precision == "tf32":
        with _tf32():
            torch.bmm(a, b, out=out)
    else:
        torch.bmm(a, b, out=out)


@contextmanager
def _tf32() -> Iterator[None]:
    """Allow float32 products on a GPU to round their factors to TF32."""
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = "tf32"
    try:
        yield
    finally:
        matmul.fp32_precision = before
