"""A small class-conditional generative adversarial network (GAN), for a few hundred images."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from common.augment import translation
from common.errors import Misuse
from common.training.augmentation import UNIFORMS

NOISE = 32
"""Dimension of the generator's noise vector."""
SHIFT = 0.1
"""Largest translation of the discriminator's images, as a fraction of height and width."""
CHUNK = 500
"""Images per forward pass of the generator."""


def conditional_gan(trial, *, width: int = 16) -> keras.Model:
    """GAN with the layers `generator` and `discriminator`: (noise [n, 32], one-hot classes [n, classes]) -> logits [n, 1].

    DCGAN (Radford et al. 2015) conditioned on the class (Mirza & Osindero 2014), in the discriminator by projection (Miyato &
    Koyama 2018). Images are in −1 … 1.

    Raises:
        Misuse: height or width of the images is not a multiple of 4.
    """
    height, width_of_image, channels = trial.input_shape
    if height % 4 or width_of_image % 4:
        raise Misuse(f"a GAN needs images whose sides are multiples of 4. Received: {height}x{width_of_image}")
    noise, classes = keras.Input((NOISE,), name="noise"), keras.Input((trial.classes,), name="classes")
    images = keras.Input(trial.input_shape, name="images")

    x = layers.Concatenate(name="noise_and_class")([noise, classes])
    x = layers.Dense(height // 4 * (width_of_image // 4) * 2 * width, activation="relu", name="ground")(x)
    x = layers.Reshape((height // 4, width_of_image // 4, 2 * width), name="maps")(x)
    x = layers.Conv2DTranspose(width, 4, strides=2, padding="same", activation="relu", name="up1")(x)
    x = layers.Conv2DTranspose(channels, 4, strides=2, padding="same", activation="tanh", name="up2")(x)
    generator = keras.Model([noise, classes], x, name="generator")

    x = layers.Conv2D(width, 4, strides=2, padding="same", name="down1")(images)
    x = layers.LeakyReLU(0.2, name="leak1")(x)
    x = layers.Conv2D(2 * width, 4, strides=2, padding="same", name="down2")(x)
    x = layers.LeakyReLU(0.2, name="leak2")(x)
    x = layers.Dense(2 * width, name="features")(layers.Flatten(name="flatten")(x))
    x = layers.LeakyReLU(0.2, name="leak3")(x)
    embedding = layers.Dense(2 * width, use_bias=False, name="projection")(classes)
    projection = layers.Dot(1, name="inner_product")([x, embedding])
    logit = layers.Add(name="logit")([layers.Dense(1, name="real")(x), projection])
    discriminator = keras.Model([images, classes], logit, name="discriminator")

    return keras.Model([noise, classes], discriminator([generator([noise, classes]), classes]), name="gan")


def adversarial(model, images, targets, seed):
    """A `step` of `Trial.fit`: losses [batch] of generator and discriminator, with the discriminator's logit D.

    Discriminator log(1 + exp −D(real)) + log(1 + exp D(generated)); generator log(1 + exp −D(generated)), the non-saturating
    loss (Goodfellow et al. 2014, section 3). Real and generated images are translated at random, so that the discriminator
    does not memorise the few real ones (Zhao et al. 2020).
    """
    generator, discriminator = model.get_layer("generator"), model.get_layer("discriminator")
    n = tf.shape(images)[0]
    noise = tf.random.stateless_normal((n, NOISE), seed)
    made = tf.cast(generator([noise, targets], training=True), tf.float32)
    # In 0 … 255, since `translation` fills the border with 0, which must be black.
    both = tf.concat([images, 127.5 * (made + 1.0)], axis=0)
    uniforms = tf.random.stateless_uniform((2 * n, UNIFORMS), seed + 1)
    both, _ = translation(SHIFT)(both, None, uniforms)
    logits = discriminator([both / 127.5 - 1.0, tf.concat([targets, targets], axis=0)], training=True)[:, 0]
    logits = tf.cast(logits, tf.float32)
    real, false = logits[:n], logits[n:]
    return {"generator": tf.nn.softplus(-false), "discriminator": tf.nn.softplus(-real) + tf.nn.softplus(false)}, None


def generated(trial, model: keras.Model, labels: np.ndarray) -> np.ndarray:
    """Generate images of given classes, from noise that depends on the trial's seed alone.

    Args:
        labels: int [n].

    Returns:
        uint8 [n, height, width, channels].
    """
    noise = trial.streams.generator("noise", "generated").standard_normal((len(labels), NOISE), np.float32)
    classes = np.eye(trial.classes, dtype=np.float32)[labels]
    generator = model.get_layer("generator")
    parts = [
        generator([noise[first : first + CHUNK], classes[first : first + CHUNK]], training=False)
        for first in range(0, len(labels), CHUNK)
    ]
    return np.round(127.5 * (np.concatenate([np.asarray(part) for part in parts]) + 1)).clip(0, 255).astype(np.uint8)
