"""What pyproject.toml cannot say: the folders data/ and specs/ travel in the wheel as llmsr/shipped/."""

from pathlib import Path

from setuptools import find_packages, setup

SHIPPED = [
    "data/oscillator1",
    "data/oscillator2",
    "data/bactgrow",
    "data/stressstrain/synthetic",
    "specs",
    "specs/bench",
]
folders = {"llmsr.shipped." + path.replace("/", "."): path for path in SHIPPED}

setup(
    packages=[*find_packages(include=["llmsr*"]), "llmsr.proposers.skeleton_lm", *folders],
    package_dir={name: str(Path(path)) for name, path in folders.items()},
)
