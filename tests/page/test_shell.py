"""A page names each of its own scripts in its policy, and nothing else as a script that may run."""

import base64
import hashlib
import re

import pytest

from mmdisco_cli.page.shell import asset, document


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("scripts", [[], ["let a = 1;\n", "let b = 'ü';\n"]])
def test_the_policy_names_every_script_by_its_hash(alone: bool, scripts: list[str]) -> None:
    page = document("t", "<main></main>", alone=alone, scripts=scripts)
    found = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert [one.removeprefix("\n") for one in found] == [*scripts, asset("page.js")]
    policy = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert len(policy) == 1
    allowed = re.findall(r"script-src ([^;]*)", policy[0])[0].split()
    hashes = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in found]
    assert allowed == [f"'sha256-{one}'" for one in hashes]
    assert ("default-src 'none'" in policy[0]) == alone
