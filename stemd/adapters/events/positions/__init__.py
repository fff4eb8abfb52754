"""The second pass: from the times of hits to probe positions, by the lines that are known."""
