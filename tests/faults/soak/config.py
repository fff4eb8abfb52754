"""The config of the soak's daemon: two pipelines with all that may be slow or may leak."""

CONFIG = """
[daemon]
instrument = "soak"
data_dir = "{data}"
reserve_mb = 4

{mqtt}

[page]
listen = "127.0.0.1:{page}"

[[pipeline]]
name = "merlin"

[pipeline.adapter]
type = "merlin"
data_port = {merlin}
idle_timeout_s = 1.0
pause_timeout_s = 3.0
scan = {{ shape = [{ny}, {nx}], step_size_angstrom = 0.3 }}

[pipeline.optics]
energy_ev = 300e3
convergence_semi_angle_mrad = 20.0
pixel_size_mrad = 2.5

[[pipeline.engine]]
type = "ricom"
kernel_size = 11

[[pipeline.engine]]
type = "virtual_detector"
detectors = {{ bf = [0.0, 20.0] }}

[[pipeline.engine]]
type = "restoration"
input = "bf"
threads = 1

[[pipeline.engine]]
type = "airpi"
threads = 1

[pipeline.publish]
rate_hz = 2.0

[pipeline.record]
raw = true

[[pipeline]]
name = "timepix"

[pipeline.adapter]
type = "timepix3"
mode = "connect"
host = "127.0.0.1"
port = {timepix}
idle_timeout_s = 1.5
pause_timeout_s = 4.5
scan = {{ shape = [{ny}, {nx}], flyback = 3, dwell_time_us = 1.0 }}

[[pipeline.engine]]
type = "ricom"
kernel_size = 11

[[pipeline.engine]]
type = "sum"

[pipeline.publish]
rate_hz = 2.0

[pipeline.record]
raw = true
"""
