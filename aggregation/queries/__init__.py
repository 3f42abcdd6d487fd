"""The only way numbers leave.

Each module answers one kind of question. What may leave is decided by `aggregation.disclosure`;
operational figures, which carry no person, say that they are exempt.
"""
