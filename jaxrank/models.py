"""The scorer: a small Flax MLP that gives each photo one score."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

# About 16 times the unit roundoff of float32: no sum of a batch has a larger relative error.
_ROUNDING = 1e-6
# Inputs of at most this many columns are image-quality numbers and the like, in which photos tie.
# For wider inputs the guard of `_narrow_product` would cost half as much again as the product.
_NARROW = 64


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": nn.relu,
    "gelu": partial(nn.gelu, approximate=False),  # as PyTorch's; Hendrycks and Gimpel 2016
    "tanh": nn.tanh,
}


# Operand precisions of a wide layer's matrix products; sums and weights are always float32.
PRECISIONS = ("highest", "tf32", "bfloat16")
_EXACT = jax.lax.Precision.HIGHEST
# TF32 on a GPU that has it, three bfloat16 products on a TPU; a CPU has only the highest.
_TF32 = jax.lax.Precision.HIGH

# Initializer of kernels [outputs, inputs].
_LECUN_NORMAL = nn.initializers.lecun_normal(in_axis=-1, out_axis=-2)


class Dropout(NamedTuple):
    """Rate and key of dropout; the rate is traced, so that all rates share a program."""

    rate: jax.Array
    key: jax.Array


class Scorer(nn.Module):
    """MLP scorer, linear without hidden layers: [Dense, activation, dropout]* -> Dense(1).

    The last layer has no bias. Kernels are LeCun normal and biases zero (Flax's defaults); a
    linear scorer starts from zero. `use_layernorm` first gives each input vector mean 0 and
    variance 1 (Ba et al. 2016). It has no gain and bias: the gain's gradient needs the gradient of
    the inputs, which costs a third of an epoch.

    Kernels are [outputs, inputs], as in PyTorch, and hidden layers [units, photos]. In this layout
    XLA's matrix products on a CPU are faster by up to a third (see docs/benchmarks.md).

    `precision` applies to products with more than 64 inputs and more than one output, which take
    most of the time. Other products are exact: photos tie in a few inputs, and rounding must not
    make their scores tie.
    """

    hidden_dims: tuple[int, ...]
    activation: str = "relu"
    use_layernorm: bool = False
    precision: str = "highest"

    @nn.compact
    def __call__(self, x_BD: jax.Array, dropout: Dropout | None = None) -> jax.Array:
        """Scores [B] of standardised features [B, D]; `dropout` is given in training only."""
        if self.use_layernorm:
            x_BD = nn.LayerNorm(epsilon=1e-5, use_bias=False, use_scale=False)(x_BD)
        h_HB = x_BD.T
        for layer, width in enumerate(self.hidden_dims):
            kernel_HD = self.param(f"kernel_{layer}", _LECUN_NORMAL, (width, h_HB.shape[0]))
            bias_H = self.param(f"bias_{layer}", nn.initializers.zeros, (width,))
            product_HB = self._product(layer, kernel_HD, h_HB)
            h_HB = ACTIVATIONS[self.activation](_add_bias(product_HB, bias_H))
            if dropout is not None:
                h_HB = _drop(h_HB, dropout.rate, jax.random.fold_in(dropout.key, layer))
        # Without hidden layers the loss is convex: from zero, the first steps find the direction.
        # A random start would only add noise to unlearn (with the 4 image-quality numbers it was
        # still present after 30 epochs).
        last = _LECUN_NORMAL if self.hidden_dims else nn.initializers.zeros
        # No bias: it cancels in every difference of scores. Adam, which divides a gradient by its
        # size, would let it drift on rounding noise.
        kernel_1H = self.param(f"kernel_{len(self.hidden_dims)}", last, (1, h_HB.shape[0]))
        return self._product(len(self.hidden_dims), kernel_1H, h_HB)[0]

    def _product(self, layer: int, kernel: jax.Array, h: jax.Array) -> jax.Array:
        narrow = h.shape[0] <= _NARROW
        if layer == 0 and narrow:
            return _narrow_product(kernel, h)
        if not self.hidden_dims:
            # XLA's loop for the product of a vector is up to three times slower on a CPU.
            return jnp.sum(kernel.T * h, axis=0, keepdims=True)
        if self.precision == "highest" or narrow or layer == len(self.hidden_dims):
            return jnp.matmul(kernel, h, precision=_EXACT)
        if self.precision == "tf32":
            return jnp.matmul(kernel, h, precision=_TF32)
        return _bfloat16_product(kernel, h)


@jax.custom_vjp
def _add_bias(h_HB: jax.Array, bias_H: jax.Array) -> jax.Array:
    """Adds a bias; the bias's gradient is zero where its terms cancel.

    The terms of a bias's gradient often cancel exactly: a unit that is active for both photos of a
    pair shifts both scores alike. Summed in floating point, such terms leave rounding noise. Adam,
    which divides a gradient by its size, turns noise into steps that depend on the cohort's size
    and on the machine. A sum below the rounding error of its terms is therefore set to zero.
    """
    return h_HB + bias_H[:, None]


def _add_bias_forward(h_HB: jax.Array, bias_H: jax.Array) -> tuple[jax.Array, None]:
    return _add_bias(h_HB, bias_H), None


def _add_bias_backward(_: None, gradient_HB: jax.Array) -> tuple[jax.Array, jax.Array]:
    total_H = jnp.sum(gradient_HB, axis=1)
    size_H = jnp.sum(jnp.abs(gradient_HB), axis=1)
    return gradient_HB, jnp.where(jnp.abs(total_H) > _ROUNDING * size_H, total_H, 0.0)


_add_bias.defvjp(_add_bias_forward, _add_bias_backward)


@jax.custom_vjp
def _narrow_product(kernel_HD: jax.Array, x_DB: jax.Array) -> jax.Array:
    """kernel @ x; the kernel's gradient is zero where its terms cancel.

    Photos can tie in an image-quality number (sharpness at its upper limit). If all pairs of a
    batch for which a unit matters tie in a column, the exact gradient of that weight is zero.
    Floating point leaves noise, which Adam would divide by its size (see `_add_bias`).
    """
    return jnp.matmul(kernel_HD, x_DB, precision=_EXACT)


def _narrow_product_forward(
    kernel_HD: jax.Array, x_DB: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _narrow_product(kernel_HD, x_DB), (kernel_HD, x_DB)


def _narrow_product_backward(
    saved: tuple[jax.Array, jax.Array], gradient_HB: jax.Array
) -> tuple[jax.Array, jax.Array]:
    kernel_HD, x_DB = saved
    total_HD = jnp.matmul(gradient_HB, x_DB.T, precision=_EXACT)
    size_HD = jnp.matmul(jnp.abs(gradient_HB), jnp.abs(x_DB).T, precision=_EXACT)
    kernel_gradient = jnp.where(jnp.abs(total_HD) > _ROUNDING * size_HD, total_HD, 0.0)
    return kernel_gradient, jnp.matmul(kernel_HD.T, gradient_HB, precision=_EXACT)


_narrow_product.defvjp(_narrow_product_forward, _narrow_product_backward)


def _sum_of_bfloat16(left: jax.Array, right: jax.Array) -> jax.Array:
    """left @ right of bfloat16 operands, summed in float32."""
    return jnp.matmul(left, right, preferred_element_type=jnp.float32)


@jax.custom_vjp
def _bfloat16_product(kernel_HD: jax.Array, x_DB: jax.Array) -> jax.Array:
    """kernel @ x of operands rounded to bfloat16, summed in float32, forwards and backwards.

    JAX's own gradient of such a product would be rounded to bfloat16, which loses small updates.
    """
    return _sum_of_bfloat16(kernel_HD.astype(jnp.bfloat16), x_DB.astype(jnp.bfloat16))


def _bfloat16_product_forward(
    kernel_HD: jax.Array, x_DB: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    rounded = kernel_HD.astype(jnp.bfloat16), x_DB.astype(jnp.bfloat16)
    return _sum_of_bfloat16(*rounded), rounded


def _bfloat16_product_backward(
    saved: tuple[jax.Array, jax.Array], gradient_HB: jax.Array
) -> tuple[jax.Array, jax.Array]:
    kernel_HD, x_DB = saved
    gradient_HB = gradient_HB.astype(jnp.bfloat16)
    return _sum_of_bfloat16(gradient_HB, x_DB.T), _sum_of_bfloat16(kernel_HD.T, gradient_HB)


_bfloat16_product.defvjp(_bfloat16_product_forward, _bfloat16_product_backward)


def _drop(h_HB: jax.Array, rate: jax.Array, key: jax.Array) -> jax.Array:
    """Inverted dropout (Srivastava et al. 2014); Flax's own does not accept a traced rate.

    A unit is kept where 32 random bits, read as a number, reach rate * 2^32.
    """
    keep = random_bits(key, h_HB.shape) >= (rate * 2.0**32).astype(jnp.uint32)
    return jnp.where(keep, h_HB / (1.0 - rate), 0.0)


def random_bits(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Random uint32 [H, B], good enough for dropout.

    The index of a unit is spread over 32 bits by the golden ratio, and mixed with the two words of
    the key by the integer hash "lowbias32" (Wellons 2018, hash-prospector). A wider layer has the
    bits of a narrower layer in its first units. JAX's own bits take thirty times the operations,
    a tenth of an epoch on a CPU. `key` is a JAX key, and must be new for every step and layer.
    """
    first, second = jax.random.key_data(key)
    place = jnp.arange(shape[0] * shape[1], dtype=jnp.uint32).reshape(shape)
    x = place * jnp.uint32(0x9E3779B9) + first
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15) ^ second) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def num_parameters(input_dim: int, hidden_dims: tuple[int, ...]) -> int:
    """Number of weights and biases of a Scorer."""
    widths = (input_dim, *hidden_dims, 1)
    return sum((a + 1) * b for a, b in itertools.pairwise(widths)) - 1  # the last has no bias


def _shapes(model: Scorer, input_dim: int) -> Any:
    inputs = jax.ShapeDtypeStruct((1, input_dim), jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), inputs)["params"]


def widened(model: Scorer, input_dim: int, params: Any) -> Any:
    """Pads the parameters of a narrower scorer with zeros to the shapes of `model`.

    The function stays the same: the activations map zero to zero, and the outgoing weights of the
    new units are zero.
    """

    def pad(leaf: Any, shape: Any) -> jax.Array:
        return jnp.pad(
            leaf, [(0, to - now) for now, to in zip(leaf.shape, shape.shape, strict=True)]
        )

    return params | {"params": jax.tree.map(pad, params["params"], _shapes(model, input_dim))}


def narrowed(model: Scorer, input_dim: int, params: Any) -> Any:
    """Cuts parameters that `widened` has padded to the shapes of the narrower `model`."""

    def cut(leaf: Any, shape: Any) -> Any:
        return leaf[tuple(slice(0, size) for size in shape.shape)]

    return params | {"params": jax.tree.map(cut, params["params"], _shapes(model, input_dim))}
