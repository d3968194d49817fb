"""Reasons to skip a task on a model of another track."""

from __future__ import annotations

from msgm_bench import Model, Prompts, Track, track_name


def track_of(model: Model) -> Track:
    """The track of ``model``: its conditions are none, classes, or prompts."""
    if model.conditioning is None:
        return "unconditional"
    return "text" if isinstance(model.conditioning, Prompts) else "class"


def skip_other_tracks(task: str, model: Model, track: Track) -> str | None:
    """Reason to skip ``task``, which is for models of ``track``; None where ``model`` is one."""
    if track_of(model) == track:
        return None
    own, other = track_name(track), track_name(track_of(model))
    return f"{task} is for {own} models, and the model is {other}"
