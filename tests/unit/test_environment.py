"""The three descriptions of the environment agree with each other and with what is installed."""

import re
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LINES = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line]
PINNED = [line.split("==") for line in LINES if not line.startswith("#")]
CONSTRAINTS = {canonicalize_name(name): version for name, version in PINNED}
EXTRAS = PROJECT["optional-dependencies"]
REQUIREMENTS = [
    Requirement(text) for texts in (PROJECT["dependencies"], *EXTRAS.values()) for text in texts
]


def test_every_requirement_has_a_tested_version_that_satisfies_it():
    for requirement in REQUIREMENTS:
        if not requirement.name.startswith("all-mpnet"):
            assert requirement.specifier.contains(CONSTRAINTS[canonicalize_name(requirement.name)])
        assert not requirement.url
    for name in ("constraints.txt", "environment.yml", "pyproject.toml", "Makefile"):
        assert "://" not in (ROOT / name).read_text().replace("file://$(CURDIR)", "")


def test_the_conda_environment_installs_the_same_under_the_same_constraints():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, with_pip = environment["dependencies"]
    (python,) = [line.split("=")[1] for line in conda if line.startswith("python=")]
    assert SpecifierSet(PROJECT["requires-python"]).contains(f"{python}.0")
    constraint, project = with_pip["pip"]
    assert constraint == "-c constraints.txt"
    extras = set(re.fullmatch(r"-e \.\[(.+)\]", project).group(1).split(","))
    assert set(EXTRAS) == extras | {"offline-mpnet", "benchmark", "lab"}


@pytest.mark.parametrize("package", ["torch", "transformers", "datasets", "jupyter-book"])
def test_what_is_installed_is_what_was_tested(package):
    assert version(package).split("+")[0] == CONSTRAINTS[package]


def a_python(path, is_new, home=""):
    """Stands in for an interpreter: tells whether it is new enough, and makes environments."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = f"mkdir -p '{home}/bin' && cp '{path}' '{home}/bin/jupyter-book' && cp '{path}' "
    path.write_text(
        f"#!/bin/sh\necho \"${{0##*/}} $*\" >> '{path.parents[1]}/calls'\n"
        f"case \"$1 $2\" in\n'-m venv') {made} '{home}/bin/python';;\n"
        f"-c*) exit {int(not is_new)};;\nesac\n"
    )
    path.chmod(0o755)
    return path


def test_an_old_python_is_told_so_and_its_environment_is_made_anew(tmp_path):
    folder = tmp_path / "a b"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (folder / name).write_text((ROOT / name).read_text())
    old = a_python(tmp_path / "old" / "python3", is_new=False)
    new = a_python(tmp_path / "new" / "python3", is_new=True, home=folder / ".venv")

    def site(python):
        command = ["make", "site", f"PYTHON={python}", "VENV=.venv"]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True)

    refused = site(old)
    assert refused.returncode != 0
    assert f"needs Python 3.11 or later, which {old} is not" in refused.stderr
    assert PROJECT["requires-python"] == ">=3.11"
    assert not (folder / ".venv").exists()
    a_python(folder / ".venv" / "bin" / "python", is_new=False)  # as an old one left it
    made = site(new)
    assert made.returncode == 0, made.stderr
    assert "venv --clear .venv" in (tmp_path / "calls").read_text()
    ran = [line.split()[0] for line in (tmp_path / "calls").read_text().splitlines()]
    assert "jupyter-book" in ran
    assert made.stdout.count("Installing packages") == 1
    assert "Installing" not in site(new).stdout
