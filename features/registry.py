"""Find features by name: the files of this folder, and entry points of other packages in the group `tamis.features`."""

from ..storage.plugins import Registry
from .base import Feature

REGISTRY: Registry[Feature] = Registry("Feature", "tamis.features", "feature")
