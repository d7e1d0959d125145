"""The Lua sources that slothstate.lua reads, and the metadata that slothstate.__version__ is read from."""

from PyInstaller.utils.hooks import collect_data_files, copy_metadata

datas = collect_data_files("slothstate") + copy_metadata("slothstate")
