"""TensorBoard's event files: records of protocol buffers, made with the package `tensorboard` alone, without TensorFlow."""

import io
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from PIL import Image
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

Value = bool | float | str
"""A value of a hyperparameter."""
FORMAT = "brain.Event:2"
MOST_BOXES = 10
"""Values of a number, at most, that the HParams table offers one by one to filter by."""


def event(wall_time: float, step: int, values: Iterable[summary_pb2.Summary.Value]) -> event_pb2.Event:
    """An event with some values.

    Args:
        wall_time: seconds since 1970; step: of the values, here the epoch.
    """
    return event_pb2.Event(wall_time=wall_time, step=step, summary=summary_pb2.Summary(value=values))


def scalar(tag: str, value: float) -> summary_pb2.Summary.Value:
    """A number."""
    return summary_pb2.Summary.Value(tag=tag, simple_value=value)


def image(tag: str, pixels: np.ndarray) -> summary_pb2.Summary.Value:
    """An image, uint8 [height, width, 1 or 3 channels]."""
    buffer = io.BytesIO()
    Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(buffer, "png")
    height, width, channels = pixels.shape
    about = {"height": height, "width": width, "colorspace": channels, "encoded_image_string": buffer.getvalue()}
    return summary_pb2.Summary.Value(tag=tag, image=summary_pb2.Summary.Image(**about))


def session(hparams: Mapping[str, Value], group: str, start: float, end: float, done: bool) -> list[summary_pb2.Summary.Value]:
    """Start and end of a session of the HParams plugin.

    Args:
        hparams: value by name; group: name of the group of sessions that differ only in the seed; start, end: seconds since 1970.
    """
    info = plugin_data_pb2.SessionStartInfo(group_name=group, start_time_secs=start)
    for name, value in hparams.items():
        kind = "bool_value" if isinstance(value, bool) else "string_value" if isinstance(value, str) else "number_value"
        setattr(info.hparams[name], kind, value)
    status = api_pb2.STATUS_SUCCESS if done else api_pb2.STATUS_FAILURE
    ended = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=end)
    return [
        _of_plugin(metadata.SESSION_START_INFO_TAG, plugin_data_pb2.HParamsPluginData(session_start_info=info)),
        _of_plugin(metadata.SESSION_END_INFO_TAG, plugin_data_pb2.HParamsPluginData(session_end_info=ended)),
    ]


def columns(hparams: Mapping[str, Sequence[Value]], metrics: Mapping[str, str]) -> summary_pb2.Summary.Value:
    """The columns of the HParams table.

    Args:
        hparams: all values by name, which are of one type; metrics: tag of a scalar -> name of its column.
    """
    experiment = api_pb2.Experiment(
        hparam_infos=[_column(name, values) for name, values in hparams.items()],
        metric_infos=[api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag), display_name=name) for tag, name in metrics.items()],
    )
    return _of_plugin(metadata.EXPERIMENT_TAG, plugin_data_pb2.HParamsPluginData(experiment=experiment))


def _column(name: str, values: Sequence[Value]) -> api_pb2.HParamInfo:
    """A hyperparameter with its type and its domain."""
    distinct = sorted(set(values))
    info = api_pb2.HParamInfo(name=name, differs=len(distinct) > 1)
    numbers = not isinstance(distinct[0], bool | str)
    info.type = (
        api_pb2.DATA_TYPE_FLOAT64
        if numbers
        else api_pb2.DATA_TYPE_BOOL
        if isinstance(distinct[0], bool)
        else api_pb2.DATA_TYPE_STRING
    )
    if numbers and len(distinct) > MOST_BOXES:
        info.domain_interval.min_value, info.domain_interval.max_value = distinct[0], distinct[-1]
    else:
        info.domain_discrete.extend(distinct)
    return info


def _of_plugin(tag: str, content: plugin_data_pb2.HParamsPluginData) -> summary_pb2.Summary.Value:
    about = metadata.create_summary_metadata(content)
    return summary_pb2.Summary.Value(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)


def to_bytes(events: Iterable[event_pb2.Event]) -> bytes:
    """The content of an event file."""
    events = list(events)
    buffer = io.BytesIO()
    writer = RecordWriter(buffer)
    first = min((one.wall_time for one in events), default=0.0)
    for one in (event_pb2.Event(wall_time=first, file_version=FORMAT), *events):
        writer.write(one.SerializeToString(deterministic=True))
    return buffer.getvalue()
