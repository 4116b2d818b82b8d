"""Puts the YAML of ``official_configs`` into the wheel.

In a checkout that folder lies beside the package, where a person looks for
it; in a wheel it must lie inside, as ``tf_largebatch/official_configs``. No
setting of pyproject.toml can say so; all else is there.
"""

import pathlib
import shutil

import setuptools
from setuptools.command.build_py import build_py

ROOT = pathlib.Path(__file__).resolve().parent
CONFIGS = "official_configs"


class BuildPy(build_py):
    """Builds the package with the configs; an editable one needs none."""

    def run(self):
        """Copies the modules, then the configs."""
        super().run()
        if self.editable_mode:
            return
        # An earlier build may have left files that are no more.
        shutil.rmtree(self.target(), ignore_errors=True)
        for source, copy in self.config_files().items():
            self.mkpath(str(pathlib.Path(copy).parent))
            self.copy_file(source, copy)

    def get_outputs(self, include_bytecode=True):
        """Lists all that ``run`` writes."""
        outputs = super().get_outputs(include_bytecode)
        if self.editable_mode:
            return outputs
        return [*outputs, *self.config_files().values()]

    def config_files(self):
        """Maps each YAML file to its place in the build folder."""
        return {
            str(path.relative_to(ROOT)): str(
                self.target() / path.relative_to(ROOT / CONFIGS)
            )
            for path in sorted((ROOT / CONFIGS).rglob("*.yaml"))
        }

    def target(self):
        """Returns the configs' folder in the build folder."""
        return pathlib.Path(self.build_lib) / "tf_largebatch" / CONFIGS


setuptools.setup(cmdclass={"build_py": BuildPy})
