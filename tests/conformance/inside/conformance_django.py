"""For Django: settings of its test suite, and a runner that writes what became of each test."""

from __future__ import annotations

import json
import os
import unittest
from pathlib import Path
from typing import Any

from django.test.runner import DiscoverRunner  # type: ignore[import-untyped]

DATABASES = json.loads(os.environ["CONFORMANCE_DATABASES"])
SECRET_KEY = "conformance"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
TEST_RUNNER = "conformance_django.Runner"


class Result(unittest.TextTestResult):
    """A test with a subtest that fails has failed."""

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._outcome, self._text = "passed", ""

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        super().addSkip(test, reason)
        if self._outcome == "passed":
            self._outcome = "skipped"

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        super().addError(test, err)
        self._failed(test, self.errors[-1][1])

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        super().addFailure(test, err)
        self._failed(test, self.failures[-1][1])

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._failed(test, self._exc_info_to_string(err, subtest))  # type: ignore[attr-defined]

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        _write(test.id(), self._outcome, self._text)

    def _failed(self, test: object, text: str) -> None:
        self._outcome, self._text = "failed", text[-4000:]
        if not isinstance(test, unittest.TestCase):  # a class or module that could not be set up
            _write(str(test), self._outcome, self._text)


class Runner(DiscoverRunner):  # type: ignore[misc]
    """Django's own runner with that result."""

    def setup_databases(self, **options: Any) -> Any:
        """A grant is for one database: whether a database is there is asked in that database, not in `postgres`."""
        from django.db.backends.postgresql.base import DatabaseWrapper  # type: ignore[import-untyped]

        own = DatabaseWrapper._nodb_cursor
        DatabaseWrapper._nodb_cursor = DatabaseWrapper.cursor
        try:
            return super().setup_databases(**options)
        finally:
            DatabaseWrapper._nodb_cursor = own

    def get_resultclass(self) -> type[unittest.TextTestResult]:
        return Result


def _write(test: str, outcome: str, text: str) -> None:
    with Path(os.environ["CONFORMANCE_REPORT"]).open("a") as file:
        file.write(json.dumps([test, outcome, text]) + "\n")
