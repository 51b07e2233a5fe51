"""Functions that return an uncompiled `keras.Model` with outputs logits [batch, classes].

The first argument is a `Trial`, or an object with its `input_shape` (height, width, channels), `classes` and, for batch
normalisation, `replicas`. The inputs are images float32 0 … 255, which the model divides by 255 unless it is given another
preprocessing layer. Layers have explicit names, since a layer's initial weights depend on its name (`seeding.seeded_weights`).
"""

from collections.abc import Callable

import keras
from keras import layers

from common.errors import Misuse
from common.text import did_you_mean

MONOTONE = ("relu", "leaky_relu", "elu", "sigmoid", "tanh", "linear")
"""Activations that commute with max-pooling: max(f(a), f(b)) = f(max(a, b))."""


class _Stack:
    """Builds a model layer by layer: the output tensor so far, and the model's name."""

    def __init__(self, trial, name: str, preprocessing: layers.Layer | None = None):
        self.name = name
        self.trial = trial
        self.inputs = keras.Input(trial.input_shape, name="images")
        self.x = (preprocessing or layers.Rescaling(1 / 255, name="rescale"))(self.inputs)

    def add(self, layer, needs: int = 1):
        """Apply a layer that takes at least `needs` pixels a side."""
        if len(self.x.shape) == 4 and min(self.x.shape[1:3]) < needs:
            height, width = self.trial.input_shape[:2]
            raise Misuse(
                f"{self.name} is too deep for these images: only {min(self.x.shape[1:3])} pixels a side are left at layer "
                f"{layer.name}, which needs {needs}. Received: {height}x{width} images; take larger ones or fewer layers"
            )
        self.x = layer(self.x)
        return self

    def model(self) -> keras.Model:
        """The model, with a dense layer for the logits at its end."""
        self.add(layers.Dense(self.trial.classes, name="logits"))
        return keras.Model(self.inputs, self.x, name=self.name)


def _published(trial, name: str, plan: tuple, dense: tuple[int, ...], preprocessing: layers.Layer | None = None) -> keras.Model:
    """A model of the tutorials: 3×3 `valid` convolutions with ReLU and 2×2 max-pools, then dense layers.

    Args:
        plan: for each layer the number of filters of a convolution, or "pool".
        dense: units of the hidden dense layers.
        preprocessing: first layer; by default a division by 255.
    """
    stack = _Stack(trial, name, preprocessing)
    for i, step in enumerate(plan, start=1):
        if step == "pool":
            stack.add(layers.MaxPooling2D(2, name=f"pool{i}"), needs=2)
        else:
            stack.add(layers.Conv2D(step, 3, activation="relu", name=f"conv{i}"), needs=3)
    stack.add(layers.Flatten(name="flatten"))
    for i, units in enumerate(dense, start=1):
        stack.add(layers.Dense(units, activation="relu", name=f"dense{i}"))
    return stack.model()


def loss_tuning(trial) -> keras.Model:
    """Published model A, for CIFAR-10: Conv32 Pool Conv64 Pool Conv64 Dense64; 122,570 parameters."""
    return _published(trial, "loss_tuning", (32, "pool", 64, "pool", 64), (64,))


def loss_choice(trial, *, raw: bool = False) -> keras.Model:
    """Published model B, for MNIST: Conv32 Pool Dense128; 693,962 parameters.

    Args:
        raw: whether it takes the pixels 0 … 255 as they are, as published.
    """
    return _published(trial, "loss_choice", (32, "pool"), (128,), layers.Identity(name="raw") if raw else None)


def speed_accuracy(trial) -> keras.Model:
    """Published model C, for MNIST: Conv32 Pool Conv64 Pool Dense64; 121,930 parameters."""
    return _published(trial, "speed_accuracy", (32, "pool", 64, "pool"), (64,))


def gradient_descent(trial) -> keras.Model:
    """Published model E, for CIFAR-10: Conv32 Pool; 72,906 parameters."""
    return _published(trial, "gradient_descent", (32, "pool"), ())


def batch_norm(trial, name: str) -> layers.Layer:
    """Batch normalisation over the whole batch, synchronised if several replicas share it.

    Momentum 0.9 (the default of the framework of He et al. 2015), since Keras' 0.99 needs thousands of updates to converge.
    """
    return layers.BatchNormalization(momentum=0.9, synchronized=trial.replicas > 1, name=name)


def _normalization(trial, kind: str, filters: int, name: str) -> layers.Layer:
    if kind == "batch":
        return batch_norm(trial, name)
    if kind == "layer":  # over height, width and channels, scaled per channel (Wu & He 2018, figure 2)
        return layers.GroupNormalization(groups=1, name=name)
    if kind == "group":
        return layers.GroupNormalization(groups=8 if filters % 8 == 0 else 1, name=name)
    hint = did_you_mean(kind, ("batch", "layer", "group"))
    raise Misuse(f"normalization must be None, batch, layer or group. Received: {kind!r}{hint}")


def _pooling(kind: str, filters: int, name: str, convolution: dict) -> layers.Layer:
    if kind == "max":
        return layers.MaxPooling2D(2, name=name)
    if kind == "average":
        return layers.AveragePooling2D(2, name=name)
    if kind == "strided":
        return layers.Conv2D(filters, 2, strides=2, name=name, **convolution)
    hint = did_you_mean(kind, ("max", "average", "strided"))
    raise Misuse(f"pooling must be None, max, average or strided. Received: {kind!r}{hint}")


def small_cnn(
    trial,
    *,
    widths: tuple[int, ...] = (16, 32),
    depth: int = 1,
    kernel_size: int = 3,
    activation: str = "relu",
    normalization: str | None = None,
    pooling: str | None = "max",
    dropout: float = 0.0,
    spatial_dropout: float = 0.0,
    dense: tuple[int, ...] = (),
    global_pooling: bool = False,
    kernel_initializer: str | keras.Initializer = "glorot_uniform",
    kernel_regularizer: keras.Regularizer | None = None,
    preprocessing: layers.Layer | None = None,
) -> keras.Model:
    """A small convolutional network: for each width a block of `same` convolutions and a 2×2 pool, then the head.

    Args:
        widths: filters of each block.
        depth: convolutions per block.
        kernel_size: pixels a side.
        activation: any Keras activation. A monotone one is applied after the block's max-pool: the same function at a quarter
            of the cost.
        normalization: None, "batch", "layer" or "group" (8 groups), between convolution and activation.
        pooling: None, "max", "average" or "strided" (a 2×2 convolution of stride 2).
        dropout: rate before the head and after each of its dense layers.
        spatial_dropout: rate after each block, dropping whole feature maps.
        dense: units of the head's hidden layers.
        global_pooling: average over height and width instead of flattening.
        kernel_initializer, kernel_regularizer: for every convolution and dense kernel.
        preprocessing: first layer of the model; by default a division by 255.

    Raises:
        Misuse: the images are too small for that many pools, or an unknown option.
    """
    kernels = {"kernel_initializer": kernel_initializer, "kernel_regularizer": kernel_regularizer}
    stack = _Stack(trial, "small_cnn", preprocessing)
    for b, filters in enumerate(widths, start=1):
        pool = _pooling(pooling, filters, f"pool{b}", kernels) if pooling else None
        for c in range(1, depth + 1):
            stack.add(layers.Conv2D(filters, kernel_size, padding="same", name=f"conv{b}_{c}", **kernels))
            if normalization:
                stack.add(_normalization(trial, normalization, filters, f"norm{b}_{c}"))
            if pool and c == depth and pooling == "max" and activation in MONOTONE:
                stack.add(pool, needs=2)
                pool = None
            stack.add(layers.Activation(activation, name=f"activation{b}_{c}"))
        if pool:
            stack.add(pool, needs=2)
        if spatial_dropout:
            stack.add(layers.SpatialDropout2D(spatial_dropout, name=f"spatial_dropout{b}"))
    stack.add(layers.GlobalAveragePooling2D(name="global_pool") if global_pooling else layers.Flatten(name="flatten"))
    if dropout:
        stack.add(layers.Dropout(dropout, name="dropout"))
    for i, units in enumerate(dense, start=1):
        stack.add(layers.Dense(units, name=f"dense{i}", **kernels))
        stack.add(layers.Activation(activation, name=f"dense_activation{i}"))
        if dropout:
            stack.add(layers.Dropout(dropout, name=f"dropout{i}"))
    stack.add(layers.Dense(trial.classes, name="logits", **kernels))
    return keras.Model(stack.inputs, stack.x, name=stack.name)


def with_one_output(model: keras.Model) -> keras.Model:
    """The model of two classes with one output z in place of its two logits: it emits (0, z), whose softmax is the sigmoid of z.

    Args:
        model: one whose last layer is the dense layer `logits`.
    """
    z = layers.Dense(1, name="logit")(model.get_layer("logits").input)
    return keras.Model(model.input, keras.ops.pad(z, [[0, 0], [1, 0]]), name=f"{model.name}_with_one_output")


def deep_dense(
    trial,
    *,
    depth: int,
    width: int = 64,
    activation: str = "relu",
    residual: bool = False,
    kernel_initializer: str | keras.Initializer = "glorot_uniform",
    kernel_regularizer: keras.Regularizer | None = None,
) -> keras.Model:
    """Multi-layer perceptron with hidden layers of equal width, to study vanishing and exploding gradients.

    Args:
        depth: number of hidden layers; width: units of each.
        residual: whether each hidden layer after the first has an identity shortcut, x + f(Wx + b) (He et al. 2015, equation 1).
    """
    kernels = {"kernel_initializer": kernel_initializer, "kernel_regularizer": kernel_regularizer}
    stack = _Stack(trial, "deep_dense")
    stack.add(layers.Flatten(name="flatten"))
    for i in range(1, depth + 1):
        before = stack.x
        stack.add(layers.Dense(width, name=f"dense{i}", **kernels))
        stack.add(layers.Activation(activation, name=f"activation{i}"))
        if residual and i > 1:
            stack.x = layers.Add(name=f"add{i}")([before, stack.x])
    stack.add(layers.Dense(trial.classes, name="logits", **kernels))
    return keras.Model(stack.inputs, stack.x, name=stack.name)


def resnet(trial, *, blocks: int = 3, kernel_regularizer: keras.Regularizer | None = None) -> keras.Model:
    """ResNet for small images (He et al. 2015, section 4.2): by default ResNet-20, 269,722 trainable parameters on CIFAR-10.

    Three stages with 16, 32 and 64 filters; identity shortcuts, subsampled and zero-padded between stages (option A).

    Args:
        blocks: residual blocks of two convolutions in each stage; the network has 6 · blocks + 2 layers.
    """
    kernels = {"use_bias": False, "kernel_initializer": "he_normal", "kernel_regularizer": kernel_regularizer}

    def convolution(x, filters, stride, name):
        x = layers.Conv2D(filters, 3, strides=stride, padding="same", name=f"conv{name}", **kernels)(x)
        return batch_norm(trial, f"norm{name}")(x)

    stack = _Stack(trial, f"resnet{6 * blocks + 2}")
    x = layers.Activation("relu", name="activation0")(convolution(stack.x, 16, 1, "0"))
    for stage, filters in enumerate((16, 32, 64), start=1):
        for block in range(1, blocks + 1):
            name, stride = f"{stage}_{block}", 2 if stage > 1 and block == 1 else 1
            shortcut = x
            x = layers.Activation("relu", name=f"activation{name}a")(convolution(x, filters, stride, f"{name}a"))
            x = convolution(x, filters, 1, f"{name}b")
            if stride == 2:
                side = (filters - shortcut.shape[-1]) // 2
                shortcut = layers.MaxPooling2D(1, strides=2, padding="same", name=f"subsample{name}")(shortcut)
                shortcut = keras.ops.pad(shortcut, [[0, 0], [0, 0], [0, 0], [side, side]])
            x = layers.Activation("relu", name=f"activation{name}b")(layers.Add(name=f"add{name}")([x, shortcut]))
    stack.x = layers.GlobalAveragePooling2D(name="global_pool")(x)
    stack.add(layers.Dense(trial.classes, name="logits", kernel_initializer="he_normal", kernel_regularizer=kernel_regularizer))
    return keras.Model(stack.inputs, stack.x, name=stack.name)


def matched(build: Callable[[int], keras.Model], parameters: int) -> keras.Model:
    """The model among build(1), build(2), … whose number of parameters is nearest to `parameters`, for arms of equal size.

    Args:
        build: f(width) -> model, whose number of parameters grows with the width.
    """

    def excess(width):
        return build(width).count_params() - parameters

    low, high = 0, 1
    while excess(high) < 0:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    return min(map(build, {max(low, 1), high}), key=lambda model: abs(model.count_params() - parameters))
