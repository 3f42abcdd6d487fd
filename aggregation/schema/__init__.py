"""What the OpenAPI document says of questions about numbers."""
