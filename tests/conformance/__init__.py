"""Conformance: the drivers' own test suites, directly and through a daypass that only observes.

In observe mode with a shared credential daypass must be invisible, and who could say better whether it is than the
suites with which the drivers test themselves? What passes directly and fails through daypass is a bug, or stands with
its cause in `known`. Nothing in here is copied from the suites: they come from their source packages.
"""
