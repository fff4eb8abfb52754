"""The client of MQTT."""
