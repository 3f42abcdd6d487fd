"""Celery's way in: each task calls one function, and leaves what is left to the next one."""
