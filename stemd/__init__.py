"""stemd: live 4D-STEM images from the camera's socket to MQTT, disk and a page."""

__version__ = "0.1.0"

__all__ = ["__version__"]
