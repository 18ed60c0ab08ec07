"""Every method, one file each: its settings, registered by name, and what it computes from a clean image and two views.

To add a method, add a file with a subclass of `SelfSupervised`; nothing else needs to know.
"""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
