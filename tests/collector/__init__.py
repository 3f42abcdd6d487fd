"""A small OTLP/HTTP receiver on the official protocol package: what the service sends out to.

It decodes what it gets, strictly, and keeps it; it answers as a collector does, or as one does that
is overloaded, broken or hostile. `python -m tests.collector` runs one to look at.
"""
