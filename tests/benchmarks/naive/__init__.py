"""What most teams would build first, and tune well: DRF serializers, a task a request, bulk_create.

The measure that the service is held against. It does the same work on the same servers with the
same settings: it validates the same fields by the same rules, pseudonymises, and stores into the
same columns with the same two indexes. What it leaves out (a ledger, duplicates by content, partial
acceptance, refusals written down) only makes it quicker.
"""
