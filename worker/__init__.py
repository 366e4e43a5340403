"""The Celery side: wake-ups in, pipeline calls out."""
