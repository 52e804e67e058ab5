"""The README's commands parse, and name recipes that exist."""

import re
import shlex
from pathlib import Path

import pytest

from epilm import cli

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = "\n".join(re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)).replace("\\\n", " ")
COMMANDS = [shlex.split(found, comments=True) for found in re.findall(r"(?m)^.*?\bepilm (.+)$", BLOCKS)]


def test_the_stages_are_shown():
    assert {command[0] for command in COMMANDS} >= {
        "corpus",
        "pretrain",
        "embed",
        "regress",
        "export",
        "report",
        "bench",
    }


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_of_the_readme_parses(command):
    cli._parser().parse_args(command)
    for word in command:
        recipe = word.removeprefix("/opt/epilm/")
        if recipe.startswith("rayjobs/"):
            assert (ROOT / recipe).is_file()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"(?m)^make (\w+)", BLOCKS))))
def test_a_target_of_the_readme_exists(target):
    assert re.search(rf"(?m)^{target}:", (ROOT / "Makefile").read_text())
