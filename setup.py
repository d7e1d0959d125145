"""Build configuration that pyproject.toml cannot express: the C extension, compiled through cffi."""

from setuptools import setup

setup(cffi_modules=["csrc/build_native.py:ffibuilder"])
