"""First layer of the slide model: standardise, normalise and map features in one product.

With the mean m and the standard deviation s of the training tiles, the layer norm (g, b) and the
linear layer (W, c), the value of a tile x is

    W (g n(z) + b) + c = (W g) n(z) + (W b + c),    z = (x - m) / s,    n(z) = (z - mu) rho,

where mu and rho are the mean and the reciprocal standard deviation of z over its entries. So the
trained part is one product with W g, and n(z) depends on the data alone. It is made block by block,
each of which fits into the cache of a CPU. Features are read as they are stored (float16), nothing
of their size is written to memory, and the backward pass makes the blocks again from mu and rho
instead of keeping them. It is one product too, since stored features need no gradient.

The mean is subtracted before the product and not after it, which would be the same in exact
arithmetic. Features of an encoder lie close to a common mean, and rounding would be relative to
that mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight

from tcgn_mil.layers.cpu.memory import CACHE_FLOATS

_DEVICE_FLOATS = 2**26  # values in a block on a GPU, where few large kernels are best
_PIXELS = 4  # side of the images as which a block passes through a convolution
_GROUPS = 8  # groups of features in that convolution


def normalised_linear(
    features: Tensor, mean: Tensor, std: Tensor, norm: nn.LayerNorm, linear: nn.Linear
) -> Tensor:
    """Compute ``linear(norm((features - mean) / std))``, where a missing feature counts as 0.

    Parameters
    ----------
    features
        (..., D) of any floating dtype. NaN is a missing value, which is 0 after standardisation.
        Infinite values give NaN.
    mean, std
        (D,) statistics by which features are standardised.
    norm, linear
        The layers, of width D and from D to K.

    Returns
    -------
    (..., K), in the dtype of `linear`, or of autocast where it is on.

    Notes
    -----
    If the features need a gradient, the layers are applied one after the other.

    Examples
    --------
    >>> import torch
    >>> norm, linear = torch.nn.LayerNorm(8), torch.nn.Linear(8, 2)
    >>> features, mean, std = torch.randn(5, 8), torch.zeros(8), torch.ones(8)
    >>> value = normalised_linear(features, mean, std, norm, linear)
    >>> bool((value - linear(norm(features))).abs().max() < 1e-6)
    True
    """
    if features.requires_grad:
        standardised = (features - mean) / std
        # In place, since nothing else reads what was just computed.
        return linear(norm(standardised.nan_to_num_(0.0, posinf=torch.inf, neginf=-torch.inf)))
    device = features.device.type
    dtype = linear.weight.dtype
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    with torch.autocast(device, enabled=False):
        # Sums of products instead of a matrix product, which vmap splits into many small ones.
        shift = (linear.weight * norm.bias).sum(dim=1) + linear.bias  # (K,)
        value, _ = _NormalisedProduct.apply(
            features.reshape(-1, features.shape[-1]),
            mean,
            1 / std,
            linear.weight * norm.weight,
            shift,
            norm.eps,
            dtype,
        )
        return value.unflatten(0, features.shape[:-1])


class _NormalisedProduct(torch.autograd.Function):
    """Map features (N, D) to n(z) weight^T + bias, (N, K).

    The second result has mu, rho, and whether a block has missing features, (3, N), for the
    backward pass. Only the weight (K, D) and the bias (K,) have a gradient.
    """

    @staticmethod
    def forward(
        features: Tensor,
        mean: Tensor,
        inverse_std: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: float,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        value = weight.new_empty((len(features), len(weight)), dtype=dtype)
        moments = mean.new_zeros((3, len(features)))
        weight, bias, width = weight.to(dtype), bias.to(dtype), (features.shape[1],)
        on_cpu = features.device.type == "cpu"
        for rows, block in centred_blocks(features, mean, replace=not on_cpu):
            block.mul_(inverse_std)
            normal, mu, rho = torch.native_layer_norm(block, width, None, None, eps)
            # To look for missing features in the moments alone is much faster. A GPU would wait.
            if on_cpu and not mu.isfinite().all():
                replace_missing(block)
                normal, mu, rho = torch.native_layer_norm(block, width, None, None, eps)
                moments[2, rows] = 1.0
            moments[0, rows], moments[1, rows] = mu[:, 0], rho[:, 0]
            value[rows] = _times(normal.to(dtype), weight, bias)
        return value, moments

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        features, mean, inverse_std, weight, _, _, dtype = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(features, mean, inverse_std, output[1])
        ctx.shape, ctx.dtype, ctx.weight_dtype = weight.shape, dtype, weight.dtype

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, gradient: Tensor, _: Any
    ) -> tuple[None, None, None, Tensor, Tensor, None, None]:
        features, mean, inverse_std, (mu, rho, missing) = ctx.saved_tensors
        of_weight = gradient.new_zeros(ctx.shape, dtype=ctx.weight_dtype)
        of_bias = gradient.sum(dim=0, dtype=ctx.weight_dtype)
        on_cpu = features.device.type == "cpu"
        with torch.autocast(gradient.device.type, enabled=False):
            # The sum of g_n rho_n (z_n - mu_n) is taken over g_n rho_n z_n, and the part of mu,
            # which is of the size of the weight, is subtracted afterwards. It is taken over z and
            # not over x - m, because small features would be lost in float16.
            scaled = gradient * rho[:, None]
            of_mean = scaled.T @ mu
            scaled = scaled.to(ctx.dtype)
            for rows, block in centred_blocks(features, mean, replace=not on_cpu):
                if on_cpu and missing[rows].any():
                    replace_missing(block)
                block.mul_(inverse_std)
                of_weight += _transposed_times(scaled[rows], block.to(ctx.dtype))
            of_weight.sub_(of_mean[:, None])
        return None, None, None, of_weight, of_bias, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Any, Any]:
        """Map R weights (R, K, D) and biases (R, K) over the same features in one wide product."""
        features, mean, inverse_std, weight, bias, eps, dtype = inputs
        assert in_dims[:3] == (None, None, None)
        assert None not in in_dims[3:5]
        weights, biases = weight.movedim(in_dims[3], 0), bias.movedim(in_dims[4], 0)
        value, moments = _NormalisedProduct.apply(
            features, mean, inverse_std, weights.flatten(0, 1), biases.flatten(), eps, dtype
        )
        return (value.unflatten(1, biases.shape), moments), (1, None)


def replace_missing(block: Tensor) -> Tensor:
    """Write 0 in place of NaN, and leave infinite values, in place."""
    return block.nan_to_num_(0.0, posinf=torch.inf, neginf=-torch.inf)


def centred_blocks(
    features: Tensor, mean: Tensor, *, replace: bool = True
) -> Iterator[tuple[slice, Tensor]]:
    """Yield blocks of ``features - mean``, and their rows.

    Parameters
    ----------
    features
        (N, D) of any floating dtype.
    mean
        (D,), which has the dtype of the blocks.
    replace
        Write 0 where a feature is missing (NaN).

    Yields
    ------
    slice, Tensor
        Some rows, and a block (rows, D). All blocks share one buffer, so that it stays in the
        cache of a CPU: a block is lost when the next one is made.
    """
    width = features.shape[1]
    floats = CACHE_FLOATS // 2 if features.device.type == "cpu" else _DEVICE_FLOATS
    step = _PIXELS**2
    whole = len(features) // step * step
    size = min(max(floats // max(1, width) // step, 1) * step, max(whole, step))
    buffer = mean.new_empty((size, width))
    # The last rows, which do not fill an image, are a block of their own.
    ends = [*range(size, whole, size), whole, len(features)]
    start = 0
    for end in ends:
        if end > start:
            block = buffer[: end - start].copy_(features[start:end]).sub_(mean)
            yield slice(start, end), replace_missing(block) if replace else block
        start = end


def _times(block: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Multiply a block (rows, D) with the transpose of a weight (K, D), and add a bias (K,)."""
    if not _as_images(block):
        return F.linear(block, weight, bias)
    # In groups of features, whose sums are added: oneDNN adds up one feature after the other, and
    # the rounding error of a long sum was four times that of a matrix product.
    kernels = weight.unflatten(1, (_GROUPS, -1)).transpose(0, 1).flatten(0, 1)  # (groups K, D / g)
    sums = F.conv2d(_to_images(block), kernels[:, :, None, None], groups=_GROUPS)
    return sums.permute(0, 2, 3, 1).reshape(len(block), _GROUPS, -1).sum(dim=1).add_(bias)


def _transposed_times(gradient: Tensor, block: Tensor) -> Tensor:
    """Multiply the transpose of a gradient (rows, K) with a block (rows, D)."""
    if not _as_images(block):
        return gradient.T @ block
    shape = (gradient.shape[1], block.shape[1], 1, 1)
    images = _to_images(gradient.contiguous())
    return conv2d_weight(_to_images(block), shape, images).flatten(1)


def _as_images(block: Tensor) -> bool:
    """Return whether a product is faster as a convolution by a kernel of one pixel.

    It is the same product. Torch gives it to oneDNN, and matrix products in float32 to MKL, which
    is 2.5 times slower for these shapes on CPUs of AMD with AVX-512.
    """
    return (
        block.device.type == "cpu"
        and block.dtype == torch.float32
        and len(block) % _PIXELS**2 == 0
        and block.shape[1] % _GROUPS**2 == 0
    )


def _to_images(rows: Tensor) -> Tensor:
    """View rows (N, D) as images (N / 16, D, 4, 4), channels last."""
    return rows.view(-1, _PIXELS, _PIXELS, rows.shape[1]).permute(0, 3, 1, 2)
