"""JUnit files of several writers, and files that are meant to do harm."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from provisioner.domain.errors import InvalidRequest
from provisioner.reports.junit import LONGEST, parse, read

PYTEST = b"""<?xml version="1.0" encoding="utf-8"?>
<testsuites name="pytest tests"><testsuite name="pytest" errors="1" failures="1" skipped="1" tests="4" time="1.25">
<testcase classname="tests.test_a" name="test_good" time="0.1"/>
<testcase classname="tests.test_a" name="test_bad[x|y]" time="0.2"><failure message="assert 1 == 2">def test_bad():
&gt;   assert 1 == 2</failure></testcase>
<testcase classname="tests.test_a" name="test_broken"><error message="no fixture"/></testcase>
<testcase classname="tests.test_a" name="test_later"><skipped message="later"/></testcase>
</testsuite></testsuites>"""


def test_pytests_file_is_counted_with_its_failures() -> None:
    suite = parse(PYTEST, "report.xml")
    assert (suite.tests, suite.failures, suite.errors, suite.skipped, suite.time_s) == (4, 1, 1, 1, 1.25)
    assert [(one.name, one.kind) for one in suite.failed] == [
        ("tests.test_a.test_bad[x|y]", "failure"),
        ("tests.test_a.test_broken", "error"),
    ]
    assert [one.message for one in suite.failed] == ["def test_bad():\n>   assert 1 == 2", "no fixture"]


def test_nested_suites_are_not_counted_twice() -> None:
    inner = b'<testsuite tests="1" time="2"><testcase name="a"/></testsuite>'
    suite = parse(b'<testsuite tests="2" time="4">' + inner + inner + b"</testsuite>", "r")
    assert (suite.tests, suite.time_s) == (2, 4.0)


def test_suites_that_list_no_tests_are_believed() -> None:
    suite = parse(b'<testsuites><testsuite tests="5" failures="2" errors="x" time="1,000.5"/></testsuites>', "r")
    assert (suite.tests, suite.failures, suite.errors, suite.time_s) == (5, 2, 0, 1000.5)


def test_counts_that_nobody_counted_stay_numbers() -> None:
    suite = parse(b'<testsuites><testsuite tests="1.7e308"/><testsuite tests="1.7e308"/></testsuites>', "r")
    assert suite.tests == 2 * 10**12


def test_a_test_that_fails_twice_failed_once() -> None:
    suite = parse(b'<testsuite><testcase name="a"><failure/><failure/></testcase></testsuite>', "r")
    assert (suite.failures, len(suite.failed)) == (1, 2)


def test_long_messages_end_at_a_line() -> None:
    text = "\n".join(f"line {number}" for number in range(10_000))
    (failed,) = parse(
        f'<testsuite><testcase name="a"><failure>{text}</failure></testcase></testsuite>'.encode(), "r"
    ).failed
    assert len(failed.message) <= LONGEST
    assert failed.message.splitlines()[-1] in text.splitlines()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "r:1: not XML: no element found"),
        (b"<testsuite><testcase>", "r:1: not XML: no element found"),
        (b"<testsuite></testsuites>", "not XML: mismatched tag"),
        (b"<html></html>", "r is no JUnit file: it begins with <html>"),
        (b'{"tests": 1}', "not XML"),
        (b"\xff\xfe\x00", "not XML"),
        (b'<?xml version="1.0" encoding="gb2312"?><testsuite/>', "an encoding that is not read here"),
        (b'<?xml version="1.0" encoding="rot13"?><testsuite/>', "an encoding that is not read here"),
        (b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><testsuite/>', "declares a document type"),
    ],
)
def test_what_is_no_junit_file_is_refused_in_a_line(data: bytes, said: str) -> None:
    with pytest.raises(InvalidRequest) as wrong:
        parse(data, "r")
    assert said in wrong.value.message


def test_a_bomb_of_entities_is_not_lit() -> None:
    levels = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    bomb = f'<!DOCTYPE x [<!ENTITY l0 "ha">{levels}]><testsuite><testcase name="&l9;"/></testsuite>'
    began = time.process_time()
    with pytest.raises(InvalidRequest, match="declares a document type"):
        parse(bomb.encode(), "r")
    assert time.process_time() - began < 1


def test_a_million_open_elements_are_no_trouble() -> None:
    with pytest.raises(InvalidRequest, match="not XML"):
        parse(b"<testsuite>" * 1_000_00, "r")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"cannot read .*absent.xml: No such file"):
        read(tmp_path / "absent.xml")
