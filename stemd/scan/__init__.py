"""A scan from blocks to images: no asyncio, no disk, no MQTT, no web."""
