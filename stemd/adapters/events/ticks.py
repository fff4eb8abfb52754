"""The clock that all event cameras are decoded to, and the marks on it: edges of line pulses."""

TICK_NS = 1.5625
"""One tick: 1/16 of the 40 MHz clock of the pixel."""
TICKS_PER_US = 640
PIXEL_CLOCK_BITS = 34
"""The pixel time wraps after 2^34 ticks, 26.84 s."""

TDC1_RISE, TDC1_FALL, TDC2_RISE, TDC2_FALL = 0xF, 0xA, 0xE, 0xB
TDC_NAMES = {
    TDC1_RISE: "TDC1 rising",
    TDC1_FALL: "TDC1 falling",
    TDC2_RISE: "TDC2 rising",
    TDC2_FALL: "TDC2 falling",
}
CLOCK_RESET = 0x10
"""Not a word: the decoder's mark that the camera's clock has begun again."""
