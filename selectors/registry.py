"""Find selectors by name: files of this folder, and entry points of other packages in the group `tamis.selectors`."""

from ..storage.plugins import Registry
from .base import Selector

REGISTRY: Registry[Selector] = Registry("Selector", "tamis.selectors", "selector")
