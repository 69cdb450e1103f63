"""Plugins that run in the suites' own environments. They write one JSON line a test to CONFORMANCE_REPORT."""
