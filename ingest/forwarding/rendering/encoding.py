"""A request as the bytes of a body: protobuf, or JSON by OTLP's rules. Pure."""

import json

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

PROTOBUF = "application/x-protobuf"
JSON = "application/json"


def encode(request: Message, encoding: str) -> tuple[bytes, str]:
    """Body and content type of a request; `encoding` is "protobuf" or "json"."""
    if encoding == "protobuf":
        return request.SerializeToString(), PROTOBUF
    value = MessageToDict(request, use_integers_for_enums=True)
    return json.dumps(value).encode(), JSON
