"""What control software sees: the MQTT sink and its parts."""
