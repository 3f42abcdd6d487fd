"""The native batch, validated by DRF: the service's fields and rules."""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone
from rest_framework import serializers

CATEGORIES = ("system", "application", "business", "network", "security")


class EventSerializer(serializers.Serializer):
    """One event; fields it doesn't know go into the properties."""

    event = serializers.CharField(max_length=200)
    timestamp = serializers.DateTimeField()
    user_id = serializers.CharField(max_length=200, required=False)
    session_id = serializers.CharField(max_length=200, required=False)
    category = serializers.ChoiceField(CATEGORIES, required=False)
    level = serializers.CharField(max_length=200, required=False)
    message = serializers.CharField(required=False, max_length=32 * 1024)
    properties = serializers.DictField(required=False)

    def to_internal_value(self, data: Any) -> Any:
        event = super().to_internal_value(data)
        others = data.keys() - self.fields.keys()
        if others:
            event["properties"] = {name: data[name] for name in others} | event.get(
                "properties", {}
            )
        return event


class BatchSerializer(serializers.Serializer):
    """The batch, with what it says for those of its events that don't say it themselves."""

    batch_id = serializers.UUIDField()
    timestamp = serializers.DateTimeField(required=False)
    client_version = serializers.CharField(max_length=200, required=False)
    user_id = serializers.CharField(max_length=200, required=False)
    session_id = serializers.CharField(max_length=200, required=False)
    category = serializers.ChoiceField(CATEGORIES, default="application")
    events = EventSerializer(many=True, allow_empty=False, max_length=1000)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        oldest = timezone.now() - timedelta(days=settings.MAX_AGE_DAYS)
        for event in attrs["events"]:
            if event["timestamp"] < oldest:
                raise serializers.ValidationError({"events": "timestamp is too long ago"})
            if "user_id" not in event and "user_id" not in attrs:
                raise serializers.ValidationError({"events": "Missing required field: user_id"})
        return attrs
