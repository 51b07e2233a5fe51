"""Updates of a model as a compiled function: losses, gradients summed over replicas, application to the weights."""

from collections.abc import Callable
from typing import NamedTuple

import keras
import tensorflow as tf

from common.errors import Misuse
from common.text import did_you_mean
from common.training import adapters, feed, noise
from common.training.stage import Stage


class Player(NamedTuple):
    """An optimizer, the variables that it trains, and the name of its layer and losses if there are several optimizers."""

    optimizer: keras.optimizers.Optimizer
    variables: list[keras.Variable]
    name: str | None


def players(stage: Stage) -> list[Player]:
    """The optimizers of a stage with the variables of each. Raises `Misuse` if one has no variables to train."""
    names, result = [layer.name for layer in stage.model.layers], []
    for name, optimizer in stage.optimizers.items():
        if name is not None and name not in names:
            raise Misuse(
                f"a dict of optimizers must name layers of the model: {', '.join(names)}. "
                f"Received: {name!r}{did_you_mean(name, names)}"
            )
        trained = stage.model if name is None else stage.model.get_layer(name)
        if not trained.trainable_variables:
            raise Misuse(
                "a model to train needs trainable weights: unfreeze some, or leave trial.fit out (train may return a pretrained "
                f"model). Received: {type(trained).__name__} {trained.name!r}, without trainable weights"
            )
        result.append(Player(optimizer, trained.trainable_variables, name))
    return result


class Update(NamedTuple):
    """Results of one update.

    Args:
        loss, accuracy: means over the batch; gradient_norm: before clipping.
        applied: whether gradients were applied (`LossScaleOptimizer` leaves out those that overflowed).
        finite: whether the weights and the loss are finite.
    """

    loss: float
    accuracy: float
    gradient_norm: float
    applied: bool
    finite: bool


def compiled(trial, stage: Stage, players: list[Player]) -> tf.types.experimental.PolymorphicFunction:
    """Compile updates, many in one call: the inputs of `Feed.inputs` -> (updates done, numbers, lengths), see `results`.

    A call ends early after an update with a loss or weights that are not finite, or whose gradients overflowed. In an update
    each replica takes its part of the batch; the gradients of all replicas are summed, then clipped, then applied once. The
    bits do not depend on the number of updates in a call.

    Outputs: numbers float32 [updates, 5], the fields of `Update`; lengths int32 [updates, replicas, …], the numbers of each
    replica's examples, of its losses for each player, and of its outputs.
    """
    step_key = trial.streams.key("noise", stage.earlier, "step")

    def update(images, labels, uniforms, count, number, bounds, sample_weight=None):
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        if trial.replicas > 1:
            first, last = bounds[0, replica], bounds[1, replica]
            images, labels, uniforms = images[first:last], labels[first:last], uniforms[first:last]
            sample_weight = None if sample_weight is None else sample_weight[first:last]
        images, targets = stage.prepare(images, labels, uniforms)
        seed = tf.stack([step_key, number * trial.replicas + replica])
        with tf.GradientTape(persistent=len(players) > 1 or stage.step is not None) as tape:
            losses, outputs = stage.losses(images, targets, seed)
            losses = _player_losses(losses, players)
            share = tf.cast(tf.shape(images)[0], tf.float32) / count
            penalty = adapters.penalty(stage.model, share, trial.replicas)
            factors = stage.loss_weights(targets, sample_weight)
            if stage.step and factors is not None:  # `results` raises for losses of another length
                factors = tf.gather(factors, tf.range(tf.shape(losses[0])[0]) % tf.shape(factors)[0])
            totals = [_total(player, values, factors, count, penalty) for player, values in zip(players, losses, strict=True)]
        squares, applied = [], []
        for player, values, (total, scaled) in zip(players, losses, totals, strict=True):
            if stage.step and stage.model.losses:  # the total has a gradient through the penalties anyway
                _check_dependence(tape.gradient(values, player.variables), player)
            gradients, norms, overflowed = _gradients(tape, player, total, scaled, trial.replicas)
            squares += norms
            applied.append(tf.logical_not(overflowed))
            player.optimizer.apply(gradients, player.variables)
        correct = _accuracy(stage, outputs, targets, count)
        loss = tf.add_n([total for total, _ in totals])
        if len(players) > 1:
            loss -= (len(players) - 1) * penalty  # the total of each player includes the penalty
        loss, correct = adapters.all_reduce_sums([loss, correct], trial.replicas)
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(v.value)) for v in stage.model.trainable_variables])
        finite = tf.logical_and(finite, tf.math.is_finite(loss))
        flags = tf.cast([tf.reduce_any(applied), finite], tf.float32)
        numbers = tf.concat([tf.stack([loss, correct, tf.sqrt(tf.add_n(squares))]), flags], axis=0)
        classified = [] if outputs is None or stage.train.classes is None else [outputs]
        return numbers, tf.stack([tf.shape(one)[0] for one in (images, *losses, *classified)])

    for player in players if trial.replicas > 1 else ():
        adapters.disable_gradient_sums(player.optimizer)
    # One signature: workers that traced at different updates would number their collectives differently.
    run = tf.function(update, jit_compile=True, autograph=False) if trial.xla else update

    def many(images, labels, uniforms, positions, edges, counts, bounds, first, *weights):
        total = tf.shape(counts)[0]

        def one(i, _, numbers, lengths):
            batch = positions[edges[i] : edges[i + 1]]
            taken = [tf.gather(array, batch) for array in (images, labels, uniforms, *weights)]
            arguments = (*taken[:3], counts[i], first + i, bounds[i], *taken[3:])
            values, sizes = map(trial.strategy.experimental_local_results, trial.strategy.run(run, args=arguments))
            good = tf.reduce_all(values[0][3:] > 0)
            return i + 1, good, numbers.write(i, values[0]), lengths.write(i, tf.stack(sizes))

        start = (0, True, *(tf.TensorArray(dtype, size=total) for dtype in (tf.float32, tf.int32)))
        done, _, numbers, lengths = tf.while_loop(lambda i, good, *_: good & (i < total), one, start, parallel_iterations=1)
        return done, numbers.stack(), lengths.stack()

    function = tf.function(many, input_signature=feed.signature(trial, stage), autograph=False)
    with noise.separate_replicas(stage.model, trial.streams, trial.replicas):
        function.get_concrete_function()
    return function


def results(updates: Callable, inputs: tuple) -> list[Update]:
    """Run a compiled call. Returns the results of the updates that were done.

    Raises:
        Misuse: a step returned another number of losses or outputs than examples.
    """
    done, numbers, lengths = (value.numpy() for value in updates(*inputs))
    for examples, *others in lengths[:done].reshape(-1, lengths.shape[-1]).tolist():
        wrong = [length for length in others if length != examples]
        if wrong:
            raise Misuse(
                "a step must return one loss, and one row of outputs, for each image: take the mean of several for one image, "
                f"and leave reduce_mean over images out. Received: {wrong[0]} for {examples} images"
            )
    return [Update(*values[:3], bool(values[3]), bool(values[4])) for values in numbers[:done].tolist()]


def _player_losses(losses, players) -> list[tf.Tensor]:
    """The losses [batch] of each player. Raises `Misuse` if names are missing or a loss is not of shape [batch]."""
    if players[0].name is not None:
        names = [player.name for player in players]
        if not isinstance(losses, dict) or set(losses) != set(names):
            received = list(losses) if isinstance(losses, dict) else type(losses).__name__
            raise Misuse(
                f"with several optimizers a step must return a dict of losses with the names {names}. Received: {received}"
            )
    elif isinstance(losses, dict):
        raise Misuse(f"with one optimizer a step must return one tensor of losses. Received: a dict with {list(losses)}")
    result = [tf.cast(losses if player.name is None else losses[player.name], tf.float32) for player in players]
    for values in result:
        if values.shape.rank not in (1, None):
            raise Misuse(
                "losses must have shape [batch], one number for each example: leave reduce_mean out, it is taken afterwards. "
                f"Received: a tensor of shape {values.shape}"
            )
    return result


def _total(player, values, factors, count, penalty) -> tuple[tf.Tensor, tf.Tensor]:
    """A replica's part of a player's mean loss plus penalties, and the same multiplied by the loss scale."""
    if factors is not None:
        values *= factors
    total = tf.reduce_sum(values) / count + penalty
    return total, player.optimizer.scale_loss(total)


def _check_dependence(gradients, player) -> None:
    """Raise `Misuse` if losses have no gradient with respect to the player's variables."""
    if all(gradient is None for gradient in gradients):
        raise Misuse(
            "losses must depend on the weights that are trained: compute them from the argument `model` of the step. "
            f"Received: losses without a gradient for any weight of {player.name or 'the model'}"
        )


def _gradients(tape, player, total, scaled, replicas) -> tuple[list, list[tf.Tensor], tf.Tensor]:
    """Gradients of a player, summed over replicas; their squared norms without the loss scale; and whether they overflowed.

    Gradients that overflowed are not applied, so their norms count as 0.
    """
    gradients = tape.gradient(scaled, player.variables)
    _check_dependence(gradients, player)
    gradients = adapters.all_reduce_sums(gradients, replicas)
    scale = 1.0 if scaled is total else player.optimizer.scale_loss(tf.constant(1.0))
    present = [gradient for gradient in gradients if gradient is not None]
    squares = [tf.reduce_sum(tf.square(tf.cast(gradient, tf.float32) / scale)) for gradient in present]
    if not isinstance(player.optimizer, keras.optimizers.LossScaleOptimizer):
        return gradients, squares, tf.constant(False)
    overflowed = tf.logical_not(player.optimizer.check_finite(present))
    return gradients, [tf.where(overflowed, 0.0, square) for square in squares], overflowed


def _accuracy(stage, outputs, targets, count) -> tf.Tensor:
    """A replica's part of the fraction of correctly classified examples; 0 for tasks without classes."""
    if outputs is None or stage.train.classes is None:
        return tf.constant(0.0)
    hits = tf.argmax(outputs, axis=-1) == tf.argmax(targets, axis=-1)
    return tf.reduce_sum(tf.cast(hits, tf.float32)) / count
