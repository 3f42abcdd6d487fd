"""`/healthz`: the process is up. `/readyz`: each thing the service leans on, by name.

Only what keeps the service from accepting makes it not ready (503): the database and a full disk. A
load balancer must not take out a server that still accepts because something behind it waits.
"""

from django.http import HttpResponse
from rest_framework.request import Request
from rest_framework.views import APIView

from telemetry_site.checks import CHECKS, Finding, examine
from telemetry_site.errors import RETRY_SECONDS
from telemetry_site.responses import json_response
from telemetry_site.schema import HEALTH, READY


class HealthView(APIView):
    """`GET /healthz`: 200 while the process is up."""

    authentication_classes = []
    operation = HEALTH

    def get(self, request: Request) -> HttpResponse:
        return json_response({"status": "ok"})


class ReadyView(APIView):
    """`GET /readyz`: every check by name; 503 where the service can't accept."""

    authentication_classes = []
    operation = READY

    def get(self, request: Request) -> HttpResponse:
        findings = examine()
        ready = all(finding.accepting for finding in findings.values())
        body = {
            "status": "ready" if ready else "not ready",
            "checks": {name: _report(name, finding) for name, finding in findings.items()},
        }
        if ready:
            return json_response(body)
        return json_response(body, 503, {"Retry-After": str(RETRY_SECONDS)})


def _report(name: str, finding: Finding) -> dict[str, bool | str]:
    report: dict[str, bool | str] = {"ok": finding.ok, "detail": finding.detail}
    return report if finding.ok else {**report, "action": finding.action or CHECKS[name].action}
