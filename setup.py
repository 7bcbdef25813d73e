"""The list of packages; everything else is in pyproject.toml.

`configs/` stands beside `jaxrank/` so that users find it, and is installed as `jaxrank.configs`;
setuptools can't say both that and "all packages below jaxrank/" in pyproject.toml.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["jaxrank", "jaxrank.*"]), "jaxrank.configs"],
    package_dir={"jaxrank.configs": "configs"},
    package_data={
        "jaxrank": ["py.typed", "*.pyi"],
        "jaxrank.culling": ["contact_sheet.html", "contact_sheet.css", "contact_sheet.js"],
    },
)
