"""Golden cases of classification: each trains a tiny network with one part of common/ or of Keras. See `golden.py`.

A case of a public name of common/ is called after it, `module.name`, one of Keras' `keras.module.Name`; what follows a comma
tells several cases of a name apart.
"""

import functools

import keras
import numpy as np
import tensorflow as tf
from keras import callbacks, regularizers
from keras.optimizers import SGD

from common import (
    augment,
    calibration,
    features,
    gan,
    gradients,
    inference,
    losses,
    models,
    optimizers,
    preprocessing,
    profiling,
    transfer,
)
from common.experiment import Experiment, Setting

RATE = 0.05


def network(trial, **options):
    """The default network of the cases."""
    return models.small_cnn(trial, **{"widths": (4,), **options})


def fit(trial, *, build=network, rate=RATE, **options):
    """Train a network by SGD with momentum, unless the options name another optimizer."""
    return trial.fit(build(trial), **{"optimizer": SGD(rate, momentum=0.9), **options})


def case(**options):
    """A case that calls `fit`."""
    return functools.partial(fit, **options)


def optimized(make, **options):
    """A case whose optimizer is created by make(trial)."""
    return lambda trial: fit(trial, optimizer=make(trial), **options)


def sgd(**options):
    """A case of SGD with momentum and some of its options."""
    return optimized(lambda _: SGD(RATE, momentum=0.9, **options))


def scheduled(schedule, **options):
    """A case whose learning rate changes in each update."""
    return optimized(lambda trial: SGD(schedule(0.1, trial.steps), momentum=0.9), **options)


def shaped(**options):
    """A case of a network with some options of `small_cnn`."""
    return case(build=functools.partial(network, **options))


def prepared(layer, **options):
    """A case of a network with the preprocessing layer(trial)."""
    return case(build=lambda trial: network(trial, preprocessing=layer(trial)), **options)


def balanced(trial):
    """Classes weighted by their effective numbers in the long tail."""
    return fit(trial, class_weight=losses.class_balanced_weights(class_counts(trial), beta=0.99))


def adjusted(trial):
    """Logits adjusted by the frequencies of the long tail."""
    return fit(trial, loss=losses.logit_adjusted(class_counts(trial) / len(trial.train)))


def class_counts(trial):
    """Training images of each class."""
    return np.bincount(trial.train.labels, minlength=trial.classes)


def centred(trial):
    """Cross-entropy and the centre loss, in a step, as in experiment 26."""
    model, step = losses.with_centres(trial, network(trial, dense=(8,)), "dense_activation1", 0.1)
    return fit(trial, build=lambda _: model, step=step)


def related(trial):
    """A second loss that is initially half as large as the first."""
    model, entropy = network(trial), keras.losses.CategoricalCrossentropy(from_logits=True)
    weight = 0.5 * losses.starting_ratio(trial, model, entropy.call, losses.softmax_squared_error)
    trial.record("weight", weight)
    return fit(trial, build=lambda _: model, loss=losses.combined((1.0, entropy), (weight, losses.softmax_squared_error)))


def noisy_step(trial):
    """A step that draws from its seed."""

    def step(model, images, targets, seed):
        logits = model(images + 16 * tf.random.stateless_normal(tf.shape(images), seed), training=True)
        return tf.nn.softmax_cross_entropy_with_logits(targets, logits), logits

    return fit(trial, step=step)


def pretrained(trial, *, frozen):
    """A network pretrained on the other classes, its convolutions frozen or not."""
    model = network(trial)
    transfer.copy_weights(transfer.pretrained(trial, network, 0.01), model)
    if frozen:
        transfer.freeze(model)
    return fit(trial, build=lambda _: model)


def generated(trial, *, images):
    """A GAN, and a network trained on real images and generated ones."""
    players = {name: keras.optimizers.Adam(1e-3, beta_1=0.5) for name in ("generator", "discriminator")}
    model = trial.fit(gan.conditional_gan(trial, width=4), optimizer=players, step=gan.adversarial, stage="gan")
    labels = trial.train.labels[:images]
    return fit(trial, on=trial.train.join(gan.generated(trial, model, labels), labels))


def cross_validated(trial):
    """Two folds after a fit to all examples."""
    model = fit(trial, stage="final")
    for i, (rest, held_out) in enumerate(trial.folds(2)):
        fit(trial, on=trial.train.take(rest), validate=trial.train.take(held_out), stage=f"fold {i}")
    return model


def matched(trial):
    """The network of about 500 parameters."""
    return models.matched(lambda width: network(trial, widths=(width,)), 500)


def distilled(trial):
    """A student that learns from a teacher trained in a stage before it."""
    teacher = fit(trial, build=lambda trial: network(trial, dense=(16,)), stage="teacher")
    return fit(trial, step=inference.distillation(teacher))


def pruned(trial):
    """A network that is pruned to a fifth of its weights and fine-tuned."""
    model = fit(trial, build=lambda trial: network(trial, dense=(16,)), stage="teacher")
    inference.prune(model, 0.8)
    trial.record("sparsity", inference.sparsity_of(model))
    return fit(trial, build=lambda _: model, stage="fine-tuning")


def deployed(precision):
    """A case of a network converted to TFLite; its latencies have a unit, and are not recorded."""
    return lambda trial: inference.deployed(trial, fit(trial), precision)


def tempered(trial):
    """A network whose logits are divided by a temperature."""
    predictor = calibration.Tempered(trial, fit(trial, epochs=4))
    trial.record("temperature", predictor.temperature)
    return predictor


def linear(build):
    """A case of a classifier of scikit-learn."""

    def train_linear(trial):
        predictor = build(trial)
        trial.record("C", predictor.strength)
        trial.record("learned numbers", predictor.learned)
        return predictor

    return train_linear


def clipped(trial):
    """A network whose gradients are clipped, trained with an optimizer by its name."""
    model = network(trial)
    return fit(
        trial, build=lambda _: model, optimizer=optimizers.named("Nesterov", RATE, **optimizers.clipping("value", 0.5, model))
    )


def measured_gradients(trial):
    """A deep network whose gradients are measured before and after training."""
    model = models.deep_dense(trial, depth=3, width=8)
    gradients.record_layer_norms(trial, model, "dense", "untrained")
    fit(trial, build=lambda _: model)
    gradients.record_layer_norms(trial, model, "dense", "trained")
    trial.record("gradient norm of all weights", gradients.weights_norm(trial, model))
    return model


def measured_logits(trial):
    """A network whose loss has its gradients with respect to the logits measured."""
    model = fit(trial, loss=losses.softmax_squared_error)
    gradients.record_logit_norms(trial, model, losses.softmax_squared_error)
    return model


def profiled(trial):
    """A network whose precision, compiler and batch size are measured."""
    watch = profiling.Watch()
    model = fit(trial, callbacks=[watch])
    profiling.record(trial, model, watch)
    return model


LOSSES = {
    "losses.softmax_squared_error": case(loss=losses.softmax_squared_error, rate=0.5),
    "losses.softmax_absolute_error": case(loss=losses.softmax_absolute_error, rate=0.5),
    "losses.rescaled_squared_error": case(loss=losses.rescaled_squared_error(scale=2.0, target=3.0)),
    "losses.generalized_cross_entropy": case(loss=losses.generalized_cross_entropy()),
    "losses.symmetric_cross_entropy": case(loss=losses.symmetric_cross_entropy()),
    "losses.log_loss": case(build=lambda trial: models.with_one_output(network(trial)), loss=losses.log_loss),
    "losses.logit_adjusted": adjusted,
    "losses.negative_entropy": case(loss=losses.combined((1.0, keras.losses.CategoricalHinge()), (0.3, losses.negative_entropy))),
    "losses.combined": case(
        loss=losses.combined((1.0, keras.losses.CategoricalCrossentropy(from_logits=True)), (0.5, losses.softmax_squared_error))
    ),
    "losses.starting_ratio": related,
    "losses.class_balanced_weights": balanced,
    "losses.centre_loss": centred,
    "keras.losses.CategoricalCrossentropy": case(),
    "keras.losses.CategoricalCrossentropy, label smoothing": case(
        loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    ),
    "keras.losses.SparseCategoricalCrossentropy": case(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)),
    "keras.losses.CategoricalFocalCrossentropy": case(
        loss=keras.losses.CategoricalFocalCrossentropy(alpha=1.0, gamma=2.0, from_logits=True)
    ),
    "keras.losses.BinaryCrossentropy": case(loss=keras.losses.BinaryCrossentropy(from_logits=True)),
    "keras.losses.CategoricalHinge": case(loss=keras.losses.CategoricalHinge()),
    "keras.losses.SquaredHinge": case(loss=keras.losses.SquaredHinge()),
    "class weights": case(class_weight={0: 3.0, 4: 0.2}),
    "step with noise": noisy_step,
}
AUGMENTATIONS = {
    "augment.flip": case(augment=[augment.flip()]),
    "augment.translation": case(augment=[augment.translation(0.25)]),
    "augment.rotation": case(augment=[augment.rotation(15)]),
    "augment.crop": case(augment=[augment.crop(0.8)]),
    "augment.cutout": case(augment=[augment.cutout(0.5)]),
    "augment.mixup": case(augment=[augment.mixup(1.0)]),
    "augment.cutmix": case(augment=[augment.cutmix(1.0)]),
    "augment.rand_augment": case(augment=[augment.rand_augment(operations=2, strength=0.3)]),
    "augment.operation": case(augment=[augment.operation("shear x", 0.7), augment.operation("sharpness", 0.5, probability=0.8)]),
    "augmentations in a row": case(augment=[augment.flip(), augment.crop(), augment.flip()]),
}
ADAPTIVE = {
    **{"Adadelta": 1.0, "Adagrad": 0.01, "Adam": 0.01, "AdamW": 0.01, "Lion": 0.001, "Muon": 0.01, "Nadam": 0.01},
    **{"RMSprop": 0.001},
}
"""Learning rate of each optimizer of the experiments, except SGD."""
OPTIMIZERS = {
    "keras.optimizers.SGD": optimized(lambda _: SGD(RATE)),
    "keras.optimizers.SGD, Nesterov": sgd(nesterov=True),
    "keras.optimizers.SGD, clipvalue": sgd(clipvalue=0.02),
    "keras.optimizers.SGD, clipnorm": sgd(clipnorm=0.2),
    "keras.optimizers.SGD, global_clipnorm": sgd(global_clipnorm=0.5),
    "keras.optimizers.SGD, weight decay": sgd(weight_decay=0.5),
    "keras.optimizers.SGD, exponential moving average": sgd(use_ema=True, ema_momentum=0.9),
    "optimizers.decay_kernels_alone": optimized(
        lambda _: optimizers.decay_kernels_alone(SGD(RATE, momentum=0.9, weight_decay=0.5))
    ),
    **{
        f"keras.optimizers.{name}": optimized(lambda _, name=name, rate=rate: getattr(keras.optimizers, name)(rate))
        for name, rate in ADAPTIVE.items()
    },
}
SCHEDULES = {
    "optimizers.clipping": clipped,
    "optimizers.inverse_time": scheduled(optimizers.inverse_time),
    "optimizers.exponential": scheduled(optimizers.exponential),
    "optimizers.step": scheduled(optimizers.step),
    "optimizers.linear": scheduled(optimizers.linear),
    "optimizers.cosine": scheduled(optimizers.cosine),
    "optimizers.warm_up_cosine": scheduled(optimizers.warm_up_cosine, epochs=8),  # of 32 updates the first 2 rise
    "optimizers.sgd": optimized(lambda trial: optimizers.sgd(trial, 0.1, momentum=0.8, epochs=8), epochs=8),
}
CALLBACKS = {  # no epoch improves by 10, so that each acts after one or two
    "keras.callbacks.EarlyStopping": case(
        epochs=3, callbacks=[callbacks.EarlyStopping("val_loss", patience=1, min_delta=10.0, restore_best_weights=True)]
    ),
    "keras.callbacks.ReduceLROnPlateau": case(
        epochs=3, callbacks=[callbacks.ReduceLROnPlateau("val_loss", patience=1, min_delta=10.0, factor=0.1)]
    ),
}
REGULARIZERS = {
    "keras.regularizers.L1": shaped(kernel_regularizer=regularizers.L1(1e-2)),
    "keras.regularizers.L2": shaped(kernel_regularizer=regularizers.L2(1e-2)),
    "keras.regularizers.L1L2": shaped(kernel_regularizer=regularizers.L1L2(1e-3, 1e-2)),
}
MODELS = {
    "models.small_cnn, two blocks": shaped(widths=(4, 8), depth=2),
    "models.small_cnn, batch normalisation": shaped(normalization="batch"),
    "models.small_cnn, layer normalisation": shaped(normalization="layer"),
    "models.small_cnn, group normalisation": shaped(widths=(16,), normalization="group"),
    "models.small_cnn, average pooling and GELU": shaped(pooling="average", activation="gelu"),
    "models.small_cnn, strided pooling": shaped(pooling="strided"),
    "models.small_cnn, global pooling": shaped(pooling=None, global_pooling=True),
    "models.small_cnn, dropout": shaped(dropout=0.3, dense=(8,)),
    "models.small_cnn, spatial dropout": shaped(spatial_dropout=0.3),
    "models.small_cnn, He's initial weights": shaped(kernel_initializer="he_normal"),
    "models.deep_dense": case(build=lambda trial: models.deep_dense(trial, depth=3, width=8, residual=True)),
    "models.resnet": case(build=lambda trial: models.resnet(trial, blocks=1), rate=0.005),
    "models.matched": case(build=matched),
    "models.loss_tuning": case(build=models.loss_tuning),
    "models.loss_choice": case(build=models.loss_choice),
    "models.speed_accuracy": case(build=models.speed_accuracy),
    "models.gradient_descent": case(build=models.gradient_descent),
}
PREPROCESSING = {
    "preprocessing.raw": prepared(lambda _: preprocessing.raw(), rate=1e-5),
    "preprocessing.divided": prepared(lambda _: preprocessing.divided()),
    "preprocessing.standardised": prepared(lambda trial: preprocessing.standardised(trial.train)),
    "preprocessing.standardised, per channel": prepared(lambda trial: preprocessing.standardised(trial.train, per_channel=True)),
    "preprocessing.standardised_image": prepared(lambda _: preprocessing.standardised_image()),
    "preprocessing.grey": prepared(lambda trial: preprocessing.grey(trial.input_shape[-1])),
    "preprocessing.whitened": prepared(lambda trial: preprocessing.whitened(trial.train)),
}
STAGES = {
    "transfer.pretrained": functools.partial(pretrained, frozen=False),
    "transfer.freeze": functools.partial(pretrained, frozen=True),
    "gan.conditional_gan": functools.partial(generated, images=16),
    "cross-validation": cross_validated,
}
FINISHED = {
    "calibration.Tempered": tempered,
    "gradients.record_layer_norms": measured_gradients,
    "gradients.record_logit_norms": measured_logits,
    "inference.distillation": distilled,
    "inference.prune": pruned,
    **{f"inference.deployed, {precision}": deployed(precision) for precision in inference.PRECISIONS},
    "profiling.record": profiled,
}
"""Cases that process or measure a trained network."""
FEATURES = {
    "features.hog_svm": linear(features.hog_svm),
    "features.pixel_regression": linear(features.pixel_regression),
}
DATA = {name: case() for name in ("wrong labels", "one batch", "another seed", "varied weights")}
PRECISIONS = {"bfloat16": case(), "float16": case()}
REPLICAS = {
    "replicas": case(),
    "replicas, all that they share": case(
        build=lambda trial: network(trial, normalization="batch", dropout=0.3, kernel_regularizer=regularizers.L2(1e-2)),
        augment=[augment.mixup(1.0)],
        class_weight={0: 3.0},
    ),
}
CASES = {
    **LOSSES,
    **AUGMENTATIONS,
    **OPTIMIZERS,
    **SCHEDULES,
    **CALLBACKS,
    **REGULARIZERS,
    **MODELS,
    **PREPROCESSING,
    **STAGES,
    **FINISHED,
    **FEATURES,
    **DATA,
    **PRECISIONS,
    **REPLICAS,
}
FIELDS = {
    "losses.log_loss": {"classes": [0, 1]},
    "losses.logit_adjusted": {"imbalance": 5.0},
    "losses.class_balanced_weights": {"imbalance": 5.0},
    "models.loss_tuning": {"image_size": 20},
    "models.speed_accuracy": {"image_size": 20},
    "preprocessing.standardised, per channel": {"colour": "rgb"},
    "preprocessing.grey": {"colour": "rgb"},
    "transfer.pretrained": {"classes": [0, 1, 2, 3, 4]},
    "transfer.freeze": {"classes": [0, 1, 2, 3, 4]},
    # Seeds for which the best penalty leads by two or five val images, so that all processors choose the same.
    "features.hog_svm": {"train_size": 100, "seed_offset": 1},
    "features.pixel_regression": {"seed_offset": 3},
    "wrong labels": {"label_noise": 0.4},
    "one batch": {"batch_size": None, "epochs": 2},
    "another seed": {"seed_offset": 1000},
    "varied weights": {"seed_offset": 1000, "vary": ["init"]},
    "bfloat16": {"precision": "mixed_bfloat16"},
    "float16": {"precision": "mixed_float16"},
    "replicas": {"replicas": 2},
    "replicas, all that they share": {"replicas": 2},
}
"""Fields of the setting that cases change."""


def train(trial, *, case):
    """Train one case."""
    return CASES[case](trial)


experiment = Experiment(
    train,
    arms={name: {"case": name, **FIELDS.get(name, {})} for name in CASES},
    setting=Setting("digits", epochs=1, batch_size=16, train_size=64),
    baseline=None,
)
