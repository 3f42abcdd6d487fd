"""Where drf-spectacular asks what there is to say. Loaded when the document is first read."""

import re
from typing import Any

from drf_spectacular.openapi import AutoSchema
from rest_framework.views import APIView

from telemetry_site.openapi import COMPONENTS, Object
from telemetry_site.schema import DESCRIPTION, SCHEMES, SECURITY, TAGS


class Inspector(AutoSchema):
    """Takes what a view says itself: its `operation` (or `operations`, by method), and how it
    tells who is calling."""

    def get_operation(
        self, path: str, path_regex: str, path_prefix: str, method: str, registry: Any
    ) -> Object:
        """The OpenAPI operation of one method on one path."""
        view: Any = self.view
        operation = {
            "operationId": "_".join(re.findall(r"\w+", f"{method.lower()} {path}")),
            **(view.operations[method.lower()] if hasattr(view, "operations") else view.operation),
            "security": security(view),
        }
        if rules := getattr(view, "rules", ()):
            operation["description"] += f"\n\nLimits: {', '.join(f'`{rule}`' for rule in rules)}."
        return operation


def security(view: APIView) -> list[Object]:
    """The ways to tell a view who is calling; none where nobody is asked."""
    found: list[Object] = []
    for authentication in view.authentication_classes:
        found += [way for way in SCHEMES[authentication.__name__] if way not in found]
    return found


def complete(result: Object, **_: Any) -> Object:
    """Add what the operations refer to, and what holds for all of them."""
    result["info"]["description"] = DESCRIPTION
    result["tags"] = TAGS
    result["components"] = COMPONENTS | {"securitySchemes": SECURITY}
    return result
