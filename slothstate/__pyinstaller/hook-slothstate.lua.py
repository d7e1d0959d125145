"""Each implementation of Lua is an extension of lupa, imported by the name that was asked for."""

from PyInstaller.utils.hooks import collect_submodules

hiddenimports = collect_submodules("lupa", filter=lambda name: ".tests" not in name)
