"""A past scan played again from its record, in a process of its own that yields to every other.

`player` is the daemon's side, `worker` the other process, `wire` what goes between them. Nothing
of a replay reaches the camera, the disk, MQTT or the pipeline's own images.
"""
