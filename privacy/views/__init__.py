"""What persons ask of their data: a copy, its erasure, and what may be stored of them.

Each view does four things: authenticate, limit, decode, call one function.
"""
