"""Where results go: MQTT, disk, the record of the camera's own bytes."""
