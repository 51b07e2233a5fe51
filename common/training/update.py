"""One update of a model as a compiled graph: losses, gradients summed over replicas, and new weights."""

from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from common.errors import Misuse
from common.text import did_you_mean
from common.training import adapters, augmentation, seeding
from common.training.stage import Stage


class Player(NamedTuple):
    """An optimizer, what it trains, and the name of its losses where there are several."""

    optimizer: keras.optimizers.Optimizer
    variables: list[keras.Variable]
    name: str | None


def players(stage: Stage) -> list[Player]:
    """The optimizers of a stage and the variables of each. Raises `Misuse` where there is nothing to train."""
    names, found = [layer.name for layer in stage.model.layers], []
    for name, optimizer in stage.optimizers.items():
        if name is not None and name not in names:
            raise Misuse(
                f"a dict of optimizers names layers of the model: take some of {', '.join(names)}. "
                f"Received: {name!r}{did_you_mean(name, names)}"
            )
        trained = stage.model if name is None else stage.model.get_layer(name)
        if not trained.trainable_variables:
            raise Misuse(
                "there is nothing to train: leave some weights trainable, or the fit out (train may return a pretrained model). "
                f"Received: {type(trained).__name__} {trained.name!r}, without trainable weights"
            )
        found.append(Player(optimizer, trained.trainable_variables, name))
    return found


def compiled(trial, stage: Stage, players: list[Player]) -> tf.types.experimental.PolymorphicFunction:
    """The compiled update: images, labels, uniforms, count, number, bounds, the examples' own weights where there are any
    -> loss, accuracy, norm, updated, finite, lengths, which `results` reads.

    Updated and finite say whether gradients were applied (a `LossScaleOptimizer` leaves out those that overflowed) and whether
    the weights are finite; lengths, int32 [replicas, …], how many examples each replica had, losses for each player, and outputs.

    Each replica takes its part, between two bounds, of the whole batch; count is by what its losses are divided, number
    that of the update. The replicas' gradients are summed, then clipped, then applied once.
    """
    noise = trial.streams.key("noise", stage.earlier, "step")

    def update(images, labels, uniforms, count, number, bounds, own=None):
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        if trial.replicas > 1:
            first, last = bounds[0, replica], bounds[1, replica]
            images, labels, uniforms = images[first:last], labels[first:last], uniforms[first:last]
            own = None if own is None else own[first:last]
        images, targets = stage.prepare(images, labels, uniforms)
        seed = tf.stack([noise, number * trial.replicas + replica])
        with tf.GradientTape(persistent=len(players) > 1 or stage.step is not None) as tape:
            losses, outputs = stage.losses(images, targets, seed)
            losses = _of_players(losses, players)
            share = tf.cast(tf.shape(images)[0], tf.float32) / count
            penalty = adapters.penalty(stage.model, share, trial.replicas)
            factors = stage.factors(targets, own)
            if stage.step and factors is not None:  # losses of another length are left to `results`
                factors = tf.gather(factors, tf.range(tf.shape(losses[0])[0]) % tf.shape(factors)[0])
            totals = [_total(player, values, factors, count, penalty) for player, values in zip(players, losses, strict=True)]
        squares, applied = [], []
        for player, values, (total, scaled) in zip(players, losses, totals, strict=True):
            if stage.step and stage.model.losses:  # penalties have a gradient of their own
                _check_dependence(tape.gradient(values, player.variables), player)
            gradients, norms, overflowed = _gradients(tape, player, total, scaled, trial.replicas)
            squares += norms
            applied.append(tf.logical_not(overflowed))
            player.optimizer.apply(gradients, player.variables)
        correct = _accuracy(stage, outputs, targets, count)
        loss = tf.add_n([total for total, _ in totals])
        if len(players) > 1:
            loss -= (len(players) - 1) * penalty  # which is part of each player's total
        loss, correct = adapters.sums([loss, correct], trial.replicas)
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(v.value)) for v in stage.model.trainable_variables])
        judged = [] if outputs is None or stage.train.classes is None else [outputs]
        lengths = tf.stack([tf.shape(one)[0] for one in (images, *losses, *judged)])
        return loss, correct, tf.sqrt(tf.add_n(squares)), tf.reduce_any(applied), finite, lengths

    for player in players if trial.replicas > 1 else ():
        adapters.expect_sums(player.optimizer)
    # One signature: machines that traced at different updates would number their collectives differently.
    run = tf.function(update, jit_compile=True) if trial.xla else update

    def call(*batch):
        *firsts, lengths = map(trial.strategy.experimental_local_results, trial.strategy.run(run, args=batch))
        return [*(results[0] for results in firsts), tf.stack(lengths)]

    compiled_call = tf.function(call, input_signature=_signature(trial, stage))
    with seeding.replicas_apart(stage.model, trial.streams, trial.replicas):
        compiled_call.get_concrete_function()
    return compiled_call


def results(update: Callable, arguments: tuple) -> list[np.generic]:
    """Loss, accuracy, norm, updated and finite of an update. Raises `Misuse` for other than one loss for each example."""
    *found, lengths = (value.numpy() for value in update(*arguments))
    for examples, *others in lengths.tolist():
        wrong = [length for length in others if length != examples]
        if wrong:
            raise Misuse(
                "a step returns one loss, and one row of outputs, for each image: take the mean of several for one image, and "
                f"leave reduce_mean over images out. Received: {wrong[0]} for {examples} images"
            )
    return found


def _of_players(losses, players) -> list[tf.Tensor]:
    """The losses [batch] of each player. Raises `Misuse` for what are none."""
    if players[0].name is not None:
        names = [player.name for player in players]
        if not isinstance(losses, dict) or set(losses) != set(names):
            given = list(losses) if isinstance(losses, dict) else type(losses).__name__
            raise Misuse(f"a step returns losses for each optimizer, a dict with the names {names}. Received: {given}")
    elif isinstance(losses, dict):
        raise Misuse(f"a step returns one tensor of losses where there is one optimizer. Received: {list(losses)}")
    found = [tf.cast(losses if player.name is None else losses[player.name], tf.float32) for player in players]
    for values in found:
        if values.shape.rank not in (1, None):
            raise Misuse(
                "losses are one number for each example, [batch], whose mean is taken afterwards: leave reduce_mean out. "
                f"Received: a tensor of shape {values.shape}"
            )
    return found


def _total(player, values, factors, count, penalty) -> tuple[tf.Tensor, tf.Tensor]:
    """A player's mean loss with penalties, and the same scaled as its precision asks for."""
    if factors is not None:
        values *= factors
    total = tf.reduce_sum(values) / count + penalty
    return total, player.optimizer.scale_loss(total)


def _check_dependence(gradients, player) -> None:
    """Raises `Misuse` where losses have no gradient with respect to what is trained."""
    if all(gradient is None for gradient in gradients):
        raise Misuse(
            "losses must depend on the weights that are trained: compute them from the model that the step is handed. "
            f"Received: losses without a gradient for any weight of {player.name or 'the model'}"
        )


def _gradients(tape, player, total, scaled, replicas) -> tuple[list, list[tf.Tensor], tf.Tensor]:
    """A player's gradients, summed over replicas, their squared norms, free of the scale, and whether they overflowed under it.

    The norms of gradients that did are 0, since they are not applied.
    """
    gradients = tape.gradient(scaled, player.variables)
    _check_dependence(gradients, player)
    gradients = adapters.sums(gradients, replicas)
    scale = 1.0 if scaled is total else player.optimizer.scale_loss(tf.constant(1.0))
    there = [gradient for gradient in gradients if gradient is not None]
    squares = [tf.reduce_sum(tf.square(tf.cast(gradient, tf.float32) / scale)) for gradient in there]
    if not isinstance(player.optimizer, keras.optimizers.LossScaleOptimizer):
        return gradients, squares, tf.constant(False)
    overflowed = tf.logical_not(player.optimizer.check_finite(there))
    return gradients, [tf.where(overflowed, 0.0, square) for square in squares], overflowed


def _accuracy(stage, outputs, targets, count) -> tf.Tensor:
    """Share of the examples that are classified rightly; 0 where there are no classes."""
    if outputs is None or stage.train.classes is None:
        return tf.constant(0.0)
    hits = tf.argmax(outputs, axis=-1) == tf.argmax(targets, axis=-1)
    return tf.reduce_sum(tf.cast(hits, tf.float32)) / count


def _signature(trial, stage) -> list[tf.TensorSpec]:
    labels = stage.train.labels
    return [
        tf.TensorSpec((None, *trial.input_shape), tf.uint8),
        tf.TensorSpec((None, *labels.shape[1:]), labels.dtype),
        tf.TensorSpec((None, len(stage.augment), augmentation.UNIFORMS), tf.float32),
        tf.TensorSpec((), tf.float32),
        tf.TensorSpec((), tf.int32),
        tf.TensorSpec((2, trial.replicas), tf.int32),
        *([tf.TensorSpec((None,), tf.float32)] if stage.sample_weight is not None else []),
    ]
