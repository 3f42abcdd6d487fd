"""Authenticate, validate, hand the events to Celery, answer."""

from django.http import HttpRequest
from django.utils.decorators import method_decorator
from django_ratelimit.decorators import ratelimit
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tests.benchmarks.naive.serializers import BatchSerializer
from tests.benchmarks.naive.tasks import store_events


def user(group: str, request: HttpRequest) -> str:
    """Whom the header names; a decorator can't know what the body says."""
    return request.META.get("HTTP_X_USER_ID", "nobody")


@method_decorator(ratelimit(key="ip", rate="1000000/m"), name="dispatch")
@method_decorator(ratelimit(key=user, rate="1000000/m"), name="dispatch")
class EventsView(APIView):
    """`POST /v1/events`."""

    def post(self, request: Request) -> Response:
        serializer = BatchSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        batch = serializer.validated_data
        # What came is plain JSON and valid: cheaper to pass on than what it was made into.
        store_events.delay(request.auth, request.data)
        return Response(
            {"batch_id": batch["batch_id"], "accepted": len(batch["events"])},
            status=status.HTTP_202_ACCEPTED,
        )
