"""Breaks: a fragment of the configuration, in four ways. About 4 s.

Must hold: `config show --origin` names the file of each value; an unknown key, a bad value and a file that its group
may write are exit code 78, with file, line and key; a masked file is none.
"""

import pytest

from lib.command import figure

pytestmark = pytest.mark.readonly

BAD = "60-bad.toml"


@pytest.fixture
def fragment(node):
    """Puts a fragment, which is gone after the test."""
    yield lambda toml: node.configure(BAD, toml)
    node.unconfigure(BAD)


def test_show_names_the_origin_of_each_value(node):
    assert node.certwarden("config", "check").code == 0
    show = node.certwarden("config", "show", "--origin")
    assert show.code == 0
    lines = show.out.splitlines()
    (gate,) = [line for line in lines if "clock-synchronised" in line]
    assert "ignore" in gate
    assert "10-vm.toml" in gate
    (default,) = [line for line in lines if line.startswith("renew.renew-before")]
    assert "30d" in default
    assert "default" in default


def test_an_unknown_key_is_named_with_file_and_line(node, fragment):
    fragment('mode = "enforce"\n\n[renew]\nrenew-befor = "1d"\n')
    check = node.certwarden("config", "check")
    assert check.code == 78
    assert f"{BAD}:4" in check.text
    assert "renew-befor" in check.text
    assert node.certwarden("check").code == 78
    figure(check.text.splitlines()[0])


def test_a_bad_value_is_named_with_file_and_line(node, fragment):
    fragment('[renew]\nrenew-before = "soon"\n')
    check = node.certwarden("config", "check")
    assert check.code == 78
    assert f"{BAD}:2" in check.text
    figure(check.text.splitlines()[0])


def test_a_file_that_its_group_may_write_is_refused(node, fragment):
    fragment('mode = "observe"\n')
    node.path(f"/etc/certwarden/config.d/{BAD}").chmod(0o664)
    check = node.certwarden("config", "check")
    assert check.code == 78
    assert BAD in check.text
    figure(check.text.splitlines()[0])


def test_a_masked_file_is_none(node, fragment):
    node.path(f"/etc/certwarden/config.d/{BAD}").symlink_to("/dev/null")
    assert node.certwarden("config", "check").code == 0
