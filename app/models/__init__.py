"""Every SQLAlchemy table. Row-level security, grants and functions are in the migrations."""
