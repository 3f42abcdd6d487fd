"""What is counted, for whom it may be shown, and which counts have to be made anew."""

from aggregation.models.buckets import (
    EventBucket,
    EventDay,
    EventHour,
    EventMonth,
    MetricBucket,
    MetricDay,
    MetricHour,
    MetricMonth,
)
from aggregation.models.dimensions import Counting, Dimension
from aggregation.models.levels import Kind, Level
from aggregation.models.marks import Build, DirtyMark, DirtyPerson, Seal
from aggregation.models.policies import Mode, Policy, ReleasedDay, ReleasedName, Spending

__all__ = [
    "Build",
    "Counting",
    "Dimension",
    "DirtyMark",
    "DirtyPerson",
    "EventBucket",
    "EventDay",
    "EventHour",
    "EventMonth",
    "Kind",
    "Level",
    "MetricBucket",
    "MetricDay",
    "MetricHour",
    "MetricMonth",
    "Mode",
    "Policy",
    "ReleasedDay",
    "ReleasedName",
    "Seal",
    "Spending",
]
