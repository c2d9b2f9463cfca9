"""The three descriptions of the environment agree with each other and with what is installed."""

import re
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
CONSTRAINTS = {
    canonicalize_name(name): pinned
    for name, pinned in (
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    )
}
EXTRAS = PROJECT["optional-dependencies"]
REQUIREMENTS = [
    Requirement(text) for texts in (PROJECT["dependencies"], *EXTRAS.values()) for text in texts
]


@pytest.mark.parametrize(
    "requirement",
    [r for r in REQUIREMENTS if not r.name.startswith("all-mpnet")],
    ids=lambda requirement: requirement.name,
)
def test_every_requirement_has_a_tested_version_that_satisfies_it(requirement):
    assert requirement.specifier.contains(CONSTRAINTS[canonicalize_name(requirement.name)])


def test_requirements_are_names_of_packages_never_addresses():
    assert not any(requirement.url for requirement in REQUIREMENTS)
    for name in ("constraints.txt", "environment.yml", "pyproject.toml", "Makefile"):
        assert "://" not in (ROOT / name).read_text().replace("file://$(CURDIR)", "")


def test_the_conda_environment_installs_the_same_under_the_same_constraints():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, with_pip = environment["dependencies"]
    (python,) = [line.split("=")[1] for line in conda if line.startswith("python=")]
    assert SpecifierSet(PROJECT["requires-python"]).contains(f"{python}.0")
    constraint, project = with_pip["pip"]
    assert constraint == "-c constraints.txt"
    extras = re.fullmatch(r"-e \.\[(.+)\]", project).group(1).split(",")
    assert set(extras) <= set(EXTRAS)
    assert set(EXTRAS) - set(extras) == {"offline-mpnet", "benchmark", "lab"}


@pytest.mark.parametrize("package", ["torch", "transformers", "datasets", "jupyter-book"])
def test_what_is_installed_is_what_was_tested(package):
    assert version(package).split("+")[0] == CONSTRAINTS[package]
