"""The demonstration: a throw-away Postgres, sample data and a vendor's session through a real proxy."""
