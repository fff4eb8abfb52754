"""Compiled code of the DECTRIS streams: messages, LZ4, bitshuffle."""
