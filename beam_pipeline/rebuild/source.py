"""Which earlier version a new one takes records over from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from beam_pipeline.layout import Layout
from beam_pipeline.rebuild.versions import Versions
from region_features.planning.reuse import settings_changed
from transforms.plans import open_plan
from transforms.published import read_published


def choose_source(versions: Versions, names: Sequence[str], settings: Mapping[str, Any] | None) -> str | None:
    """Return the version that holds most records of these settings, None where none has a plan.

    An unfinished version may hold more of them than the latest, whose settings differ.

    Args:
        versions: where they are.
        names: the latest version, if there is one, then unfinished ones, the oldest first.
        settings: of the run that makes the new version; None where they are not known: the first one is taken.
    """
    planned = [name for name in names if versions.has_plan(name)]
    if len(planned) < 2 or settings is None:
        return planned[0] if planned else None
    return max(planned, key=lambda name: _count_records(versions.folder(name), settings))


def _count_records(output: str, settings: Mapping[str, Any]) -> int:
    layout = Layout(output)
    plan = open_plan(layout.plan)
    if settings_changed(plan.settings, settings):
        return 0
    return sum(len(stats.ids) for stats in read_published(layout.shards, plan).values())


def settings_of(versions: Versions, name: str) -> Mapping[str, Any] | None:
    """Return the settings of a version's run, None where it has no plan yet."""
    return open_plan(Layout(versions.folder(name)).plan).settings if versions.has_plan(name) else None
