"""What the OpenAPI document says of the endpoints here: bodies, answers, refusals, examples."""
