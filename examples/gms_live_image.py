"""Show a live stemd image in DigitalMicrograph (GMS 3.4 and later), while the scan runs.

Run this in the Python script window of GMS. It needs one package in GMS's own Python:
    C:/ProgramData/Miniconda3/envs/GMS_VENV_PYTHON/python -m pip install paho-mqtt

Python 3.7 is enough. The bytes of an image are explained in docs/how-to/connect-your-software.md.
"""

import json
import queue
import struct

import DigitalMicrograph as DM  # noqa: N817, as GMS calls it
import numpy as np
import paho.mqtt.client as mqtt

BROKER = "127.0.0.1"
TOPIC = "stemd/+/+/image/ricom"
SECONDS = 300.0


def read_image(payload):
    """Pixels (y, x) and description of an image as it comes over MQTT."""
    width, height = (
        struct.unpack_from("<I", payload, 18)[0],
        struct.unpack_from("<I", payload, 30)[0],
    )
    length, at = struct.unpack_from("<II", payload, 74)
    (pixels_at,) = struct.unpack_from("<I", payload, 90)
    about = json.loads(payload[at : at + length - 1].decode("ascii"))
    pixels = np.frombuffer(payload, "<f4", width * height, pixels_at)
    return pixels.reshape(height, width), about


def new_client():
    """A client of paho-mqtt 1 or 2."""
    if hasattr(mqtt, "CallbackAPIVersion"):
        return mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    return mqtt.Client()


class Window:
    """One image of DigitalMicrograph that is drawn anew, or another one for another size."""

    def __init__(self):
        self.image = None
        self.shape = None

    def show(self, pixels, about):
        """Draw these pixels, with their scale in nm."""
        if self.shape != pixels.shape:
            self.image, self.shape = DM.CreateImage(pixels.copy()), pixels.shape
            for axis in (0, 1):
                step = about.get("pixel_size_angstrom")
                if step:
                    self.image.SetDimensionCalibration(axis, 0.0, step / 10.0, "nm", 0)
            self.image.ShowImage()
        self.image.SetName("{} of {}".format(about["name"], about["scan"]))
        self.image.GetNumArray()[:] = pixels
        self.image.UpdateImage()


def main(broker=BROKER, port=1883, seconds=SECONDS):
    """Show images for so many seconds. GMS draws in this thread only, paho listens in its own."""
    arrived = queue.Queue()
    client = new_client()
    client.on_connect = lambda *_: client.subscribe(TOPIC)
    client.on_message = lambda _client, _userdata, message: arrived.put(message.payload)
    client.connect(broker, port)
    client.loop_start()
    window = Window()
    try:
        while True:
            payload = arrived.get(timeout=seconds)
            while not arrived.empty():
                payload = arrived.get()  # only the newest is worth drawing
            window.show(*read_image(payload))
    except queue.Empty:
        print(f"no image has come for {seconds:.0f} s")
    finally:
        client.loop_stop()
        client.disconnect()


if __name__ == "__main__":
    main()
