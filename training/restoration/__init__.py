"""The restoration network: synthetic images, training, export. See README.md."""
